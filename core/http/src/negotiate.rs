//! What the client would rather have (RFC 9110, 12.5).

use crate::field::Fields;
use crate::scan::is_tchar;

/// A content coding (RFC 9110, 8.4.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Coding {
    /// None.
    Identity,
    /// RFC 1952
    Gzip,
    /// Brotli, RFC 7932
    Br,
    /// RFC 8878
    Zstd,
}

impl Coding {
    /// As in `Content-Encoding`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Identity => "identity",
            Self::Gzip => "gzip",
            Self::Br => "br",
            Self::Zstd => "zstd",
        }
    }

    /// What the name of a file that holds another one in this coding ends with.
    pub const fn suffix(self) -> &'static str {
        match self {
            Self::Identity => "",
            Self::Gzip => ".gz",
            Self::Br => ".br",
            Self::Zstd => ".zst",
        }
    }

    /// Chooses among codings that a server could send, the ones it would rather send first;
    /// `Identity` is one of them or not. `None` if the client takes none of them, which is a 406.
    ///
    /// The client's weights come first, then the server's order. Without `Accept-Encoding` only
    /// `Identity` is sent: who does not ask for a coding may not know it. `Identity` that is not
    /// named is taken last. A member that is malformed counts for nothing, of two of one name the first
    /// counts.
    pub fn negotiate(fields: &Fields<'_>, available: &[Self]) -> Option<Self> {
        let asked = fields.first("Accept-Encoding").is_some();
        let weight = |coding: &Self| -> Option<(u16, bool)> {
            let members = || fields.all("Accept-Encoding").flat_map(members);
            let named = members().find(|member| coding.is_named(member.name));
            let star = || members().find(|member| member.name == b"*");
            match (named, coding) {
                (Some(member), _) => Some((member.weight, true)),
                (None, Self::Identity) => match star() {
                    Some(star) if star.weight == 0 => None,
                    _ => Some((1, false)),
                },
                (None, _) if asked => star().map(|star| (star.weight, true)),
                (None, _) => None,
            }
            .filter(|(weight, _)| *weight > 0)
        };
        best(available.iter().copied(), |coding| weight(coding))
    }

    fn is_named(self, name: &[u8]) -> bool {
        name.eq_ignore_ascii_case(self.as_str().as_bytes())
            || (self == Self::Gzip && name.eq_ignore_ascii_case(b"x-gzip"))
    }
}

/// How a page that is made here is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PageForm {
    /// For a browser.
    #[default]
    Html,
    /// For a program.
    Json,
    /// For a terminal.
    Plain,
}

impl PageForm {
    /// The one that the client would rather have: `Html`, if it does not care, or takes none.
    ///
    /// The most specific range counts; of equal weights, the form that is named rather than one that
    /// a `*` stands for. Parameters but `q` are not looked at; a member that is
    /// malformed counts for nothing.
    pub fn negotiate(fields: &Fields<'_>) -> Self {
        let weight = |form: &Self| -> Option<(u16, u8)> {
            let media_type = form.essence();
            let ranges = fields.all("Accept").flat_map(members);
            // Of equally specific ones the first.
            let best = ranges
                .filter_map(|it| Some((specificity(it.name, media_type)?, it.weight)))
                .reduce(|best, it| if it.0 > best.0 { it } else { best });
            best.map(|(specific, weight)| (weight, specific)).filter(|(weight, _)| *weight > 0)
        };
        best([Self::Html, Self::Json, Self::Plain].into_iter(), |form| weight(form))
            .unwrap_or_default()
    }

    /// The value of `Content-Type`.
    pub const fn content_type(self) -> &'static str {
        match self {
            Self::Html => "text/html; charset=utf-8",
            Self::Json => "application/json",
            Self::Plain => "text/plain; charset=utf-8",
        }
    }

    const fn essence(self) -> &'static str {
        match self {
            Self::Html => "text/html",
            Self::Json => "application/json",
            Self::Plain => "text/plain",
        }
    }
}

/// The first of those with the greatest weight.
fn best<T, W: Ord>(of: impl Iterator<Item = T>, weight: impl Fn(&T) -> Option<W>) -> Option<T> {
    let weighed = of.filter_map(|it| Some((weight(&it)?, it)));
    weighed.reduce(|best, it| if it.0 > best.0 { it } else { best }).map(|(_, it)| it)
}

/// How closely a media range fits; `None` if it does not.
fn specificity(range: &[u8], media_type: &str) -> Option<u8> {
    if range.eq_ignore_ascii_case(media_type.as_bytes()) {
        return Some(2);
    }
    if range == b"*/*" {
        return Some(0);
    }
    let (of, _) = media_type.split_once('/')?;
    let fits = range.strip_suffix(b"/*").is_some_and(|it| it.eq_ignore_ascii_case(of.as_bytes()));
    fits.then_some(1)
}

/// A member of a list of preferences.
struct Member<'a> {
    name: &'a [u8],
    /// 0 to 1,000.
    weight: u16,
}

/// Those that are well-formed.
fn members(value: &[u8]) -> impl Iterator<Item = Member<'_>> {
    split(value, b',').filter_map(|member| {
        let mut parts = split(member, b';');
        let name = parts.next()?.trim_ascii();
        let is_name = |c: &u8| is_tchar(*c) || *c == b'/';
        if name.is_empty() || !name.iter().all(is_name) {
            return None;
        }
        let mut weight = 1_000;
        for parameter in parts {
            let parameter = parameter.trim_ascii();
            if let [b'q' | b'Q', b'=', digits @ ..] = parameter {
                weight = qvalue(digits)?;
            }
        }
        Some(Member { name, weight })
    })
}

/// At `at`, but not in quotes.
fn split(value: &[u8], at: u8) -> impl Iterator<Item = &[u8]> {
    let mut quoted = false;
    let mut escaped = false;
    value.split(move |&c| {
        let ends = c == at && !quoted;
        let was = core::mem::take(&mut escaped);
        match c {
            b'"' if !was => quoted = !quoted,
            b'\\' if quoted && !was => escaped = true,
            _ => {}
        }
        ends
    })
}

/// `0`, `0.5`, `1.000`: at most three digits, in thousandths.
fn qvalue(text: &[u8]) -> Option<u16> {
    let (whole, rest) = text.split_first()?;
    let decimals = match rest {
        [] => rest,
        [b'.', decimals @ ..] => decimals,
        _ => return None,
    };
    if decimals.len() > 3 || !decimals.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let digit = |at: usize| u16::from(decimals.get(at).map_or(0, |digit| digit & 0x0F));
    let thousandths = digit(0).saturating_mul(100);
    let thousandths = thousandths.saturating_add(digit(1).saturating_mul(10));
    let thousandths = thousandths.saturating_add(digit(2));
    match (whole, thousandths) {
        (b'0', thousandths) => Some(thousandths),
        (b'1', 0) => Some(1_000),
        _ => None,
    }
}
