//! The same tokens to the `fernet` crate and to us, in both directions.
#![allow(missing_docs)]

#[path = "token/cases.rs"]
mod cases;

use fernet::Fernet;
use semfio_keysync::{Key, Policy};
use semfio_machine::UnixTime;

use cases::Case;

fn open(key: &Key, policy: Policy, case: &Case) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    let now = UnixTime::from_secs(case.now);
    key.open(&case.policy(policy), now, &case.token, &mut out).ok().map(|_| out)
}

/// What the crate makes of it, or `None` where it must not be asked: it adds the TTL to a time that
/// nobody has vouched for, and panics where that overflows.
fn theirs(fernet: &Fernet, case: &Case) -> Option<Option<Vec<u8>>> {
    let end = case.ttl.zip(case.seconds()).map(|(ttl, seconds)| seconds.checked_add(ttl));
    if end == Some(None) {
        return None;
    }
    let opened = std::str::from_utf8(&case.token).ok();
    Some(opened.and_then(|token| fernet.decrypt_at_time(token, case.ttl, case.now).ok()))
}

/// `SEMFIO_CASES` sets how many tokens are tried.
#[test]
fn the_crate_and_we_agree_on_every_token() {
    let cases = std::env::var("SEMFIO_CASES").map_or(100_000, |cases| cases.parse().unwrap());
    let key = Key::new(std::array::from_fn(|at| at as u8 * 3));
    let fernet = Fernet::new(&key.to_text()).unwrap();
    let (mut opened, mut refused, mut overflown, mut strict) = (0, 0, 0, 0);
    for number in 0..cases {
        let case = cases::case(number, &key, |at, plaintext| match number % 2 {
            0 => fernet.encrypt_at_time(plaintext, at).into_bytes(),
            _ => {
                let (mut token, iv) = (Vec::new(), u128::from(number).to_le_bytes());
                key.seal(UnixTime::from_secs(at), iv, plaintext, &mut token);
                token
            }
        });
        let ours = open(&key, Policy::CRATE, &case);
        let shown = || format!("{number}: {:?} at {}", case.token.escape_ascii(), case.now);
        match theirs(&fernet, &case) {
            Some(theirs) => assert_eq!(ours, theirs, "{}, TTL {:?}", shown(), case.ttl),
            None => {
                assert_eq!(ours, None, "{}", shown());
                overflown += 1;
            }
        }
        // What the specification allows, everybody reads the same way.
        let by_rule = open(&key, Policy::STRICT, &case);
        if by_rule.is_some() {
            strict += 1;
            assert_eq!(by_rule, ours, "{}", shown());
            assert_eq!(by_rule, open(&key, Policy::PYTHON, &case), "{}", shown());
        }
        *(if ours.is_some() { &mut opened } else { &mut refused }) += 1;
    }
    eprintln!(
        "{opened} opened, {refused} refused, {strict} by the rule, {overflown} overflow there"
    );
    for some in [opened, refused, strict] {
        assert!(some * 10 > cases, "few: {opened}, {refused}, {strict} of {cases}");
    }
    assert!(strict < opened && overflown * 1_000 > cases, "{strict}, {overflown}");
}
