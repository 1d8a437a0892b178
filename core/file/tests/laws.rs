//! The laws of the contract on both machines, and that each test of them can fail.
#![allow(missing_docs)]

use semfio_file::{
    CourseClient, CourseEnd, CourseEvent, MAX_REQUEST, Session, SessionCommand, SessionEvent,
};
use semfio_machine::{FileId, FileSpan};
use semfio_sim::laws::{Act, Subject};

/// A command as a value.
#[derive(Clone, Debug)]
enum Told {
    File,
    Unknown,
    Whole,
}

fn command(told: &Told) -> SessionCommand<'_> {
    match told {
        Told::File => SessionCommand::File(FileSpan { file: FileId(3), offset: 0, len: 1_000 }),
        Told::Whole => SessionCommand::Whole,
        Told::Unknown => SessionCommand::Unknown(b"leao.jpg"),
    }
}

fn session(told: Told) -> Subject<'static, Session, String, Told> {
    Subject::new(Session::new, |event: SessionEvent<'_>| format!("{event:?}"))
        .with_script(command, vec![(1, Act::Command(told)), (2, Act::Command(Told::Whole))])
}

#[test]
fn a_session_keeps_the_laws() {
    let wires: [&[u8]; 9] = [
        b"GET iguana.jpg",
        b"GET iguana.jpg\nmore",
        b"GET\t a b c\r\n",
        b"GET \xFF\xFE\n",
        b"GET",
        b"GETiguana.jpg x\n",
        b"PUT x\n",
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        b"\xFFsemfio\x01",
    ];
    for wire in wires {
        for told in [Told::File, Told::Unknown] {
            session(told).check(wire).unwrap();
        }
    }
    session(Told::File)
        .refusals(b"GET iguana.jpg\n", &[Told::File, Told::Unknown, Told::Whole])
        .unwrap();
}

#[test]
fn a_request_has_one_longest_length_however_it_is_cut() {
    for len in [MAX_REQUEST - 1, MAX_REQUEST, MAX_REQUEST + 1, 2 * MAX_REQUEST] {
        let mut wire = vec![b'x'; len];
        wire.iter_mut().zip(b"GET ").for_each(|(to, from)| *to = *from);
        session(Told::Unknown).split(&wire).unwrap();
        session(Told::Unknown).drip(&wire).unwrap();
        wire.push(b'\n');
        session(Told::Unknown).split(&wire).unwrap();
    }
}

#[derive(Clone, Debug, PartialEq)]
enum Got {
    Body(Vec<u8>),
    End(CourseEnd),
}

fn client(word: &'static str) -> Subject<'static, CourseClient, Got> {
    let event = |event: CourseEvent<'_>| match event {
        CourseEvent::Body(bytes) => Got::Body(bytes.to_vec()),
        CourseEvent::End(end) => Got::End(end),
    };
    Subject::new(move || CourseClient::new(word).unwrap(), event).with_merge(|one, two| {
        match (one, two) {
            (Got::Body(one), Got::Body(two)) => {
                one.extend_from_slice(two);
                true
            }
            _ => false,
        }
    })
}

#[test]
fn a_client_keeps_the_laws() {
    let error = "ERROR \"O arquivo leao.jpg não existe\"";
    let wires = [
        String::new(),
        "O".into(),
        "OK".into(),
        "KO".into(),
        "OKOK".into(),
        "a picture, then OK".into(),
        "cut".into(),
        error.into(),
        format!("{error}OK"),
        format!("{error} and more OK"),
        error.replace("leao", "lobo"),
        "x".repeat(2_000),
    ];
    for wire in wires {
        client("leao.jpg").check(wire.as_bytes()).unwrap();
    }
}

#[test]
fn a_name_may_hold_the_mark_of_the_end() {
    client("xOK.OK").check("ERROR \"O arquivo xOK".as_bytes()).unwrap();
}

#[test]
fn names_the_dialect_cannot_carry_are_refused() {
    for word in ["", "a b", "a\nb", "a\x0bb", &"x".repeat(1020)] {
        assert!(CourseClient::new(word).is_err(), "{word:?}");
    }
    for word in ["a", "é", &"x".repeat(1019)] {
        assert!(CourseClient::new(word).is_ok(), "{word:?}");
    }
}
