//! How a peer broke the protocol.

use core::fmt;

use crate::status::Status;

/// What was broken, and where.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HttpError {
    /// The rule.
    pub rule: Rule,
    /// The octet of the connection's input where it was broken, from 0.
    pub offset: u64,
}

impl HttpError {
    /// What a server answers with.
    pub fn status(&self) -> Status {
        self.rule.status()
    }
}

impl fmt::Display for HttpError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at octet {} ({})", self.rule, self.offset, self.rule.section())
    }
}

impl core::error::Error for HttpError {}

macro_rules! rules {
    ($($(#[doc = $doc:literal])+ $rule:ident, $name:literal, $status:ident, $section:literal;)*) => {
        /// The rules of reading. Their texts say what a message must be.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[non_exhaustive]
        pub enum Rule {
            $($(#[doc = $doc])+ $rule,)*
        }

        impl Rule {
            /// All of them, in the order of a message.
            pub const ALL: &[Self] = &[$(Self::$rule,)*];

            /// A short name that does not change.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$rule => $name,)* }
            }

            /// What a server answers with.
            pub const fn status(self) -> Status {
                match self { $(Self::$rule => Status::$status,)* }
            }

            /// Where it is written.
            pub const fn section(self) -> &'static str {
                match self { $(Self::$rule => $section,)* }
            }
        }

        impl fmt::Display for Rule {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(match self { $(Self::$rule => concat!($($doc),+).trim_ascii(),)* })
            }
        }
    };
}

rules! {
    /// a line ends with CR LF
    LineEnd, "line-end", BAD_REQUEST, "RFC 9112, 2.2";
    /// a request line is method, one space, target, one space, version
    RequestLine, "request-line", BAD_REQUEST, "RFC 9112, 3";
    /// a method is a token
    MethodToken, "method-token", BAD_REQUEST, "RFC 9110, 9.1";
    /// a target holds visible ASCII only
    TargetOctet, "target-octet", BAD_REQUEST, "RFC 9112, 3.2";
    /// a target has one of four forms, and the one that goes with its method
    TargetForm, "target-form", BAD_REQUEST, "RFC 9112, 3.2";
    /// a target is no longer than the limit
    TargetTooLong, "target-too-long", URI_TOO_LONG, "RFC 9110, 15.5.15";
    /// a target has no fragment
    TargetFragment, "target-fragment", BAD_REQUEST, "RFC 9112, 3.2";
    /// a percent sign is followed by two hexadecimal digits
    TargetPercent, "target-percent", BAD_REQUEST, "RFC 3986, 2.1";
    /// a target names no user
    TargetUser, "target-user", BAD_REQUEST, "RFC 9110, 4.2.4";
    /// a version is HTTP/ and two digits with a point between them
    VersionForm, "version-form", BAD_REQUEST, "RFC 9112, 2.3";
    /// the version is 1.0 or 1.1
    VersionUnsupported, "version-unsupported", HTTP_VERSION_NOT_SUPPORTED, "RFC 9110, 15.6.6";
}
