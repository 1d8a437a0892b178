//! Dates in fields (RFC 9110, 5.6.7).

use core::fmt;
use semfio_machine::UnixTime;

const DAYS: [&str; 7] = ["Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"];
const LONG_DAYS: [&str; 7] =
    ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"];
pub(crate) const MONTHS: [&str; 12] =
    ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

/// A date as it is sent: `Sun, 06 Nov 1994 08:49:37 GMT`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HttpDate([u8; 29]);

impl HttpDate {
    /// The second of `time`, what is beyond it dropped. Nothing is allocated.
    pub fn new(time: UnixTime) -> Self {
        let it = time.civil();
        let name = |names: &[&str], at: u8| {
            let name = names.get(usize::from(at)).map_or(&b"   "[..], |name| name.as_bytes());
            <[u8; 3]>::try_from(name).unwrap_or([b' '; 3])
        };
        let [d1, d2, d3] = name(&DAYS, it.weekday);
        let [m1, m2, m3] = name(&MONTHS, it.month.saturating_sub(1));
        let two = |value: u8| [b'0'.saturating_add(value / 10), b'0'.saturating_add(value % 10)];
        let [c1, c2] = two(u8::try_from(it.year / 100).unwrap_or(0));
        let [y1, y2] = two(u8::try_from(it.year % 100).unwrap_or(0));
        let [t1, t2] = two(it.day);
        let [h1, h2] = two(it.hour);
        let [n1, n2] = two(it.minute);
        let [s1, s2] = two(it.second);
        Self([
            d1, d2, d3, b',', b' ', t1, t2, b' ', m1, m2, m3, b' ', c1, c2, y1, y2, b' ', h1, h2,
            b':', n1, n2, b':', s1, s2, b' ', b'G', b'M', b'T',
        ])
    }

    /// Reads a date in one of its three forms, letter by letter as they are defined: capitals as
    /// they are, single spaces, two digits, GMT. `now` says which century a year of two digits is
    /// of: none that is more than 50 years ahead.
    ///
    /// The name of the day is not compared with the date: a wrong one would turn
    /// `If-Unmodified-Since` off, which is worse than to believe the rest. What is before 1970 or
    /// after 2554 is the first or the last time there is.
    pub fn parse(value: &[u8], now: UnixTime) -> Option<UnixTime> {
        imf_fixdate(value).or_else(|| rfc850(value, now)).or_else(|| asctime(value))
    }

    /// As it is sent.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// As it is sent.
    pub fn as_str(&self) -> &str {
        core::str::from_utf8(&self.0).unwrap_or_default()
    }
}

impl AsRef<[u8]> for HttpDate {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Display for HttpDate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// `Sun, 06 Nov 1994 08:49:37 GMT`
fn imf_fixdate(value: &[u8]) -> Option<UnixTime> {
    let mut it = Reader(value);
    it.one_of(&DAYS)?;
    it.literal(b", ")?;
    let day = it.digits(2)?;
    it.literal(b" ")?;
    let month = it.one_of(&MONTHS)?;
    it.literal(b" ")?;
    let year = it.digits(4)?;
    it.literal(b" ")?;
    let seconds = it.time_of_day()?;
    it.literal(b" GMT")?;
    it.end()?;
    time(year, month, day, seconds)
}

/// `Sunday, 06-Nov-94 08:49:37 GMT`
fn rfc850(value: &[u8], now: UnixTime) -> Option<UnixTime> {
    let mut it = Reader(value);
    it.one_of(&LONG_DAYS)?;
    it.literal(b", ")?;
    let day = it.digits(2)?;
    it.literal(b"-")?;
    let month = it.one_of(&MONTHS)?;
    it.literal(b"-")?;
    let short = it.digits(2)?;
    it.literal(b" ")?;
    let seconds = it.time_of_day()?;
    it.literal(b" GMT")?;
    it.end()?;
    // The last year with these digits that is no more than 50 years ahead.
    let latest = u32::from(now.civil().year).saturating_add(50);
    let century = latest.saturating_sub(short) / 100;
    let year = century.saturating_mul(100).saturating_add(short);
    match time(year, month, day, seconds) {
        // In that very year, the days decide.
        Some(at) if year == latest && at > fifty_years_after(now) => {
            time(year.saturating_sub(100), month, day, seconds)
        }
        other => other,
    }
}

/// `Sun Nov  6 08:49:37 1994`
fn asctime(value: &[u8]) -> Option<UnixTime> {
    let mut it = Reader(value);
    it.one_of(&DAYS)?;
    it.literal(b" ")?;
    let month = it.one_of(&MONTHS)?;
    it.literal(b" ")?;
    let day = if it.literal(b" ").is_some() { it.digits(1)? } else { it.digits(2)? };
    it.literal(b" ")?;
    let seconds = it.time_of_day()?;
    it.literal(b" ")?;
    let year = it.digits(4)?;
    it.end()?;
    time(year, month, day, seconds)
}

#[allow(clippy::arithmetic_side_effects)] // every operand is below 100,000
fn fifty_years_after(now: UnixTime) -> UnixTime {
    let it = now.civil();
    let midnight = u64::from(it.hour) * 3_600 + u64::from(it.minute) * 60 + u64::from(it.second);
    let year = u32::from(it.year).saturating_add(50);
    let month = u32::from(it.month).saturating_sub(1);
    time(year, month, u32::from(it.day), midnight)
        // 29 February.
        .or_else(|| time(year, month, 28, midnight))
        .unwrap_or(UnixTime::from_secs(u64::MAX))
}

/// `month` from 0. `None` for a day that the month does not have.
#[allow(clippy::arithmetic_side_effects)] // every operand is below 2^22
fn time(year: u32, month: u32, day: u32, seconds: u64) -> Option<UnixTime> {
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let days_of_month = match month {
        1 if leap => 29,
        1 => 28,
        3 | 5 | 8 | 10 => 30,
        _ => 31,
    };
    if day == 0 || day > days_of_month {
        return None;
    }
    // Years are counted from 1 March, so that the leap day is the last of its year.
    let (year, from_march) =
        if month >= 2 { (i64::from(year), month - 2) } else { (i64::from(year) - 1, month + 10) };
    let days = 365 * year + year.div_euclid(4) - year.div_euclid(100)
        + year.div_euclid(400)
        + i64::from((153 * from_march + 2) / 5 + day)
        - 719_469;
    Some(UnixTime::from_secs(match u64::try_from(days) {
        Ok(days) => days.saturating_mul(86_400).saturating_add(seconds),
        Err(_) => 0,
    }))
}

struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn literal(&mut self, text: &[u8]) -> Option<()> {
        self.0 = self.0.strip_prefix(text)?;
        Some(())
    }

    fn one_of(&mut self, names: &[&str]) -> Option<u32> {
        let at = names.iter().position(|name| self.literal(name.as_bytes()).is_some())?;
        u32::try_from(at).ok()
    }

    fn digits(&mut self, count: usize) -> Option<u32> {
        let (digits, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        digits.iter().try_fold(0_u32, |value, digit| {
            let digit = digit.is_ascii_digit().then(|| digit & 0x0F)?;
            value.checked_mul(10)?.checked_add(digit.into())
        })
    }

    /// In seconds. The leap second is there, and is the next one.
    #[allow(clippy::arithmetic_side_effects)] // every operand is below 100,000
    fn time_of_day(&mut self) -> Option<u64> {
        let hour = self.digits(2)?;
        self.literal(b":")?;
        let minute = self.digits(2)?;
        self.literal(b":")?;
        let second = self.digits(2)?;
        let right = hour < 24 && minute < 60 && second <= 60;
        right.then(|| u64::from(hour) * 3_600 + u64::from(minute) * 60 + u64::from(second))
    }

    fn end(&self) -> Option<()> {
        self.0.is_empty().then_some(())
    }
}
