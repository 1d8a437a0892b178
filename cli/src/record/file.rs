//! What a trace tells of the services that serve and get files.

use anyhow::Context as _;
use semfio_file::{
    CourseGet, CourseGetConfig, CourseGetMessage, Fetch, FetchConfig, FetchMessage, Listing,
    ListingConfig, ListingMessage, Pour, PourConfig, PourMessage, PutLimits, Repository,
    RepositoryConfig, RepositoryMessage, Upload, UploadConfig, UploadItem, UploadMessage,
};
use semfio_machine::{RootId, Seed, Target};
use semfio_path::{Policy, SafeName};
use semfio_trace::{Header, Recorded};

use super::{Spoken, field, header, number, seed_of};

/// The names of the services in a trace.
pub(crate) const REPOSITORY: &str = "file.repository";
pub(crate) const FETCH: &str = "file.fetch";
pub(crate) const UPLOAD: &str = "file.upload";
pub(crate) const POUR: &str = "file.pour";
pub(crate) const LISTING: &str = "file.listing";
pub(crate) const COURSE_GET: &str = "file.course_get";

/// Messages of one kind, each written as one word.
macro_rules! recorded_as {
    ($($message:path => $kind:ty, $word:expr;)*) => {$(
        impl Recorded for Spoken<$kind> {
            fn encode(&self, to: &mut Vec<u8>) {
                let $message = self.0;
                to.extend_from_slice($word);
            }

            fn decode(from: &[u8]) -> Option<Self> {
                (from == $word).then_some(Self($message))
            }
        }
    )*};
}

recorded_as! {
    RepositoryMessage::Stop => RepositoryMessage, b"stop";
    FetchMessage::Interrupt => FetchMessage, INTERRUPT;
    UploadMessage::Interrupt => UploadMessage, INTERRUPT;
    ListingMessage::Interrupt => ListingMessage, INTERRUPT;
    CourseGetMessage::Interrupt => CourseGetMessage, INTERRUPT;
}

impl Recorded for Spoken<PourMessage> {
    fn encode(&self, to: &mut Vec<u8>) {
        match self.0 {
            PourMessage::Taken(bytes) => {
                to.extend_from_slice(format!("{TAKEN}{bytes}").as_bytes());
            }
            PourMessage::Interrupt => to.extend_from_slice(INTERRUPT),
        }
    }

    fn decode(from: &[u8]) -> Option<Self> {
        if from == INTERRUPT {
            return Some(Self(PourMessage::Interrupt));
        }
        let bytes = std::str::from_utf8(from).ok()?.strip_prefix(TAKEN)?;
        Some(Self(PourMessage::Taken(bytes.parse().ok()?)))
    }
}

/// What a server takes, if it takes files.
const AT_ONCE: &str = "writable.at_once";
const LARGEST: &str = "writable.file";
const QUOTA: &str = "writable.quota";
/// Where it puts hashes away, if anywhere.
const SCRATCH: &str = "scratch";

const INTERRUPT: &[u8] = b"interrupt";
const TAKEN: &str = "taken ";

/// The header of a file server's trace.
pub(crate) fn repository_header(config: &RepositoryConfig) -> Header {
    let [dots, hyphen] = policy_fields(config.policy);
    let mut header = header(REPOSITORY, "server", [dots, hyphen], None);
    let mut put = |key: &str, value: String| drop(header.config.insert(key.into(), value));
    if let Some(PutLimits { at_once, file, quota }) = config.writable {
        put(AT_ONCE, at_once.to_string());
        put(LARGEST, file.to_string());
        put(QUOTA, quota.to_string());
    }
    if let Some(RootId(scratch)) = config.scratch {
        put(SCRATCH, scratch.to_string());
    }
    header
}

/// The server that a header tells of.
pub(crate) fn repository_of(header: &Header) -> anyhow::Result<Repository> {
    let writable = match field(header, AT_ONCE) {
        Err(_) => None,
        Ok(_) => Some(PutLimits {
            at_once: number(header, AT_ONCE)?,
            file: number(header, LARGEST)?,
            quota: number(header, QUOTA)?,
        }),
    };
    let scratch = match field(header, SCRATCH) {
        Err(_) => None,
        Ok(_) => Some(RootId(number(header, SCRATCH)?)),
    };
    let policy = policy_of(header)?;
    Ok(Repository::new(RepositoryConfig { policy, writable, scratch, ..Default::default() }))
}

/// The header of the trace of a [`Fetch`].
pub(crate) fn fetch_header(config: &FetchConfig) -> Header {
    let [kind, target, port] = target_fields(&config.target);
    let [dots, hyphen] = policy_fields(config.policy);
    // No safe name holds a line feed.
    let names: Vec<&str> = config.names.iter().map(SafeName::as_str).collect();
    let fields = [
        kind,
        target,
        port,
        dots,
        hyphen,
        ("names", names.join("\n")),
        ("save_as", config.save_as.as_ref().map(SafeName::to_string).unwrap_or_default()),
        ("replace", config.replace.to_string()),
        ("jobs", config.jobs.to_string()),
        ("retries", config.retries.to_string()),
    ];
    header(FETCH, "client", fields, None)
}

/// The fetch that a header tells of.
pub(crate) fn fetch_of(header: &Header) -> anyhow::Result<Fetch> {
    let names = field(header, "names")?.split('\n').map(safe).collect::<Result<_, _>>()?;
    let save_as = match field(header, "save_as")? {
        "" => None,
        name => Some(safe(name)?),
    };
    let config = FetchConfig {
        target: target_of(header)?,
        names,
        root: RootId(0),
        save_as,
        replace: number(header, "replace")?,
        jobs: number(header, "jobs")?,
        policy: policy_of(header)?,
        retries: number(header, "retries")?,
    };
    Ok(Fetch::new(config))
}

/// The header of the trace of an [`Upload`].
pub(crate) fn upload_header(config: &UploadConfig) -> Header {
    let [kind, target, port] = target_fields(&config.target);
    let [dots, hyphen] = policy_fields(config.policy);
    let item = |item: &UploadItem| format!("{}\n{}\n{}", item.root.0, item.local, item.name);
    let items: Vec<String> = config.items.iter().map(item).collect();
    let fields = [
        kind,
        target,
        port,
        dots,
        hyphen,
        ("items", items.join("\n")),
        ("replace", config.replace.to_string()),
        ("retries", config.retries.to_string()),
    ];
    header(UPLOAD, "client", fields, None)
}

/// The upload that a header tells of.
pub(crate) fn upload_of(header: &Header) -> anyhow::Result<Upload> {
    let lines: Vec<&str> = field(header, "items")?.split('\n').collect();
    let items = lines.chunks(3).map(|item| match item {
        [root, local, name] => {
            let root = RootId(root.parse().context("items")?);
            Ok(UploadItem { root, local: safe(local)?, name: safe(name)? })
        }
        _ => Err(anyhow::anyhow!("items")),
    });
    Ok(Upload::new(UploadConfig {
        items: items.collect::<Result<_, _>>()?,
        target: target_of(header)?,
        replace: number(header, "replace")?,
        policy: policy_of(header)?,
        retries: number(header, "retries")?,
    }))
}

/// The header of the trace of a [`Pour`].
pub(crate) fn pour_header(config: &PourConfig) -> Header {
    let [kind, target, port] = target_fields(&config.target);
    let (name, retries) = (config.name.to_string(), config.retries.to_string());
    header(POUR, "client", [kind, target, port, ("name", name), ("retries", retries)], None)
}

/// The pour that a header tells of.
pub(crate) fn pour_of(header: &Header) -> anyhow::Result<Pour> {
    Ok(Pour::new(PourConfig {
        target: target_of(header)?,
        name: safe(field(header, "name")?)?,
        retries: number(header, "retries")?,
    }))
}

/// The header of the trace of a [`Listing`].
pub(crate) fn listing_header(config: &ListingConfig) -> Header {
    let [kind, target, port] = target_fields(&config.target);
    let name = config.name.as_ref().map(SafeName::to_string).unwrap_or_default();
    header(LISTING, "client", [kind, target, port, ("name", name)], None)
}

/// The listing that a header tells of.
pub(crate) fn listing_of(header: &Header) -> anyhow::Result<Listing> {
    let name = match field(header, "name")? {
        "" => None,
        name => Some(safe(name)?),
    };
    Ok(Listing::new(ListingConfig { target: target_of(header)?, name }))
}

/// The header of the trace of a [`CourseGet`].
pub(crate) fn course_get_header(config: &CourseGetConfig, seed: &Seed) -> Header {
    let [kind, target, port] = target_fields(&config.target);
    let fields = [
        kind,
        target,
        port,
        ("word", config.word.clone()),
        ("save_as", config.save_as.to_string()),
        ("replace", config.replace.to_string()),
    ];
    header(COURSE_GET, "client", fields, Some(seed))
}

/// The one that a header tells of.
pub(crate) fn course_get_of(header: &Header) -> anyhow::Result<CourseGet> {
    let config = CourseGetConfig {
        target: target_of(header)?,
        word: field(header, "word")?.into(),
        root: RootId(0),
        save_as: safe(field(header, "save_as")?)?,
        replace: number(header, "replace")?,
    };
    CourseGet::new(config, seed_of(header)?).map_err(anyhow::Error::new)
}

fn target_fields(target: &Target) -> [(&'static str, String); 3] {
    let (kind, target, port) = match target {
        Target::Address(address) => ("address", address.to_string(), 0),
        Target::Name(name, port) => ("name", name.clone(), *port),
    };
    [("target.kind", kind.into()), ("target", target), ("target.port", port.to_string())]
}

fn target_of(header: &Header) -> anyhow::Result<Target> {
    let target = field(header, "target")?;
    Ok(match field(header, "target.kind")? {
        "address" => Target::Address(target.parse().context("target")?),
        _ => Target::Name(target.into(), number(header, "target.port")?),
    })
}

fn policy_fields(policy: Policy) -> [(&'static str, String); 2] {
    let Policy { dot_names, hyphen } = policy;
    [("policy.dot_names", dot_names.to_string()), ("policy.hyphen", hyphen.to_string())]
}

fn policy_of(header: &Header) -> anyhow::Result<Policy> {
    Ok(Policy {
        dot_names: number(header, "policy.dot_names")?,
        hyphen: number(header, "policy.hyphen")?,
    })
}

fn safe(name: &str) -> anyhow::Result<SafeName> {
    let any = Policy { dot_names: true, hyphen: true };
    SafeName::parse(name, any).with_context(|| format!("{name:?} in its configuration"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_configuration_survives_its_header() {
        let seed = Seed::from_u64(7);
        for target in
            [Target::Address("[::1]:9".parse().unwrap()), Target::Name("localhost".into(), 8003)]
        {
            let name = |name| safe(name).unwrap();
            let config = FetchConfig {
                target: target.clone(),
                names: vec![name("a/.b"), name("ç d")],
                root: RootId(0),
                save_as: Some(name("other")),
                replace: true,
                jobs: 3,
                policy: Policy { dot_names: true, hyphen: false },
                retries: 4,
            };
            let again = fetch_of(&fetch_header(&config)).unwrap();
            assert_eq!(format!("{again:?}"), format!("{:?}", Fetch::new(config)));
            let item = |root, local, there| {
                let (root, local, name) = (RootId(root), name(local), name(there));
                UploadItem { root, local, name }
            };
            let config = UploadConfig {
                target: target.clone(),
                items: vec![item(0, ".b", "x/ç d"), item(7, "c", "c")],
                replace: true,
                policy: Policy { dot_names: false, hyphen: true },
                retries: 3,
            };
            let again = upload_of(&upload_header(&config)).unwrap();
            assert_eq!(format!("{again:?}"), format!("{:?}", Upload::new(config)));
            let config = PourConfig { target: target.clone(), name: name("a"), retries: 5 };
            let again = pour_of(&pour_header(&config)).unwrap();
            assert_eq!(format!("{again:?}"), format!("{:?}", Pour::new(config)));
            for name in [None, Some(name("a/b"))] {
                let config = ListingConfig { target: target.clone(), name };
                let again = listing_of(&listing_header(&config)).unwrap();
                assert_eq!(format!("{again:?}"), format!("{:?}", Listing::new(config)));
            }
            let config = CourseGetConfig {
                target,
                word: "Iguana.jpg".into(),
                root: RootId(0),
                save_as: name("iguana.jpg"),
                replace: true,
            };
            let again = course_get_of(&course_get_header(&config, &seed)).unwrap();
            let wanted = CourseGet::new(config, &seed).unwrap();
            assert_eq!(format!("{again:?}"), format!("{wanted:?}"));
        }
        let policy = Policy { dot_names: true, hyphen: false };
        for writable in [None, Some(PutLimits { at_once: 3, file: 4, quota: 5 })] {
            let scratch = writable.map(|_| RootId(1));
            let config =
                RepositoryConfig { policy, writable, scratch, ..RepositoryConfig::default() };
            let again = repository_of(&repository_header(&config)).unwrap();
            assert_eq!(format!("{again:?}"), format!("{:?}", Repository::new(config)));
        }
    }

    #[test]
    fn messages_come_back_from_a_trace() {
        for message in [PourMessage::Taken(65_536), PourMessage::Interrupt] {
            let mut bytes = Vec::new();
            Spoken(message).encode(&mut bytes);
            assert_eq!(Spoken::decode(&bytes).map(|spoken| spoken.0), Some(message));
        }
        assert!(Spoken::<PourMessage>::decode(b"taken").is_none());
        assert!(Spoken::<FetchMessage>::decode(b"stop").is_none());
    }
}
