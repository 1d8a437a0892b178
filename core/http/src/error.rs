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
        write!(f, "{} (octet {}; {})", self.rule, self.offset, self.rule.section())
    }
}

impl core::error::Error for HttpError {}

/// What was broken in the octets that were shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Broken {
    /// The rule.
    pub rule: Rule,
    /// The octet where it was broken, counted from the first untaken one.
    pub at: usize,
}

impl Broken {
    /// The same in a connection of whose input `taken` octets were taken before.
    pub fn after(self, taken: u64) -> HttpError {
        let at = u64::try_from(self.at).unwrap_or(u64::MAX);
        HttpError { rule: self.rule, offset: taken.saturating_add(at) }
    }
}

impl Rule {
    /// Broken here.
    #[cold]
    pub(crate) const fn broken(self, at: usize) -> Broken {
        Broken { rule: self, at }
    }
}

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
    /// a head is whole before the connection ends
    HeadShort, "head-short", BAD_REQUEST, "RFC 9112, 8";
    /// a line ends with CR LF
    LineEnd, "line-end", BAD_REQUEST, "RFC 9112, 2.2";
    /// a head is no longer than the limit
    HeadTooLong, "head-too-long", REQUEST_HEADER_FIELDS_TOO_LARGE, "RFC 6585, 5";
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
    /// a status line is version, one space, three digits from 100 on, one space, text
    StatusLine, "status-line", BAD_GATEWAY, "RFC 9112, 4";
    /// no blank stands before the first field
    LeadingBlank, "leading-blank", BAD_REQUEST, "RFC 9112, 2.2";
    /// a field's value is on one line
    Fold, "fold", BAD_REQUEST, "RFC 9112, 5.2";
    /// a field line has a colon
    FieldColon, "field-colon", BAD_REQUEST, "RFC 9112, 5";
    /// a field's name is a token
    FieldName, "field-name", BAD_REQUEST, "RFC 9110, 5.1";
    /// no blank stands between a field's name and its colon
    FieldBlank, "field-blank", BAD_REQUEST, "RFC 9112, 5.1";
    /// a field's value holds no control characters
    FieldValue, "field-value", BAD_REQUEST, "RFC 9110, 5.5";
    /// a field line is no longer than the limit
    FieldTooLong, "field-too-long", REQUEST_HEADER_FIELDS_TOO_LARGE, "RFC 6585, 5";
    /// there are no more fields than the limit
    FieldsTooMany, "fields-too-many", REQUEST_HEADER_FIELDS_TOO_LARGE, "RFC 6585, 5";
    /// a request of HTTP/1.1 has a Host
    HostMissing, "host-missing", BAD_REQUEST, "RFC 9112, 3.2";
    /// there is one Host
    HostTwice, "host-twice", BAD_REQUEST, "RFC 9112, 3.2";
    /// a Host is a host, and a port if there is a colon
    HostForm, "host-form", BAD_REQUEST, "RFC 9112, 3.2";
    /// a length is a decimal number below 2^64
    LengthForm, "length-form", BAD_REQUEST, "RFC 9112, 6.3";
    /// a length is given once
    LengthTwice, "length-twice", BAD_REQUEST, "RFC 9112, 6.3";
    /// codings are tokens with commas between them
    CodingForm, "coding-form", BAD_REQUEST, "RFC 9112, 6.1";
    /// chunked is applied once
    ChunkedTwice, "chunked-twice", BAD_REQUEST, "RFC 9112, 6.1";
    /// chunked is the last coding
    ChunkedLast, "chunked-last", BAD_REQUEST, "RFC 9112, 6.3";
    /// chunked is the only coding that is understood
    CodingUnknown, "coding-unknown", NOT_IMPLEMENTED, "RFC 9112, 6.1";
    /// codings are of HTTP/1.1 and later
    CodingVersion, "coding-version", BAD_REQUEST, "RFC 9112, 6.1";
    /// there is a length or a coding, not both
    LengthAndCoding, "length-and-coding", BAD_REQUEST, "RFC 9112, 6.3";
    /// 100-continue is the only expectation
    Expectation, "expectation", EXPECTATION_FAILED, "RFC 9110, 10.1.1";
    /// content is whole before the connection ends
    ContentShort, "content-short", BAD_REQUEST, "RFC 9112, 8";
    /// a chunk begins with its size, 1 to 16 hexadecimal digits
    ChunkSize, "chunk-size", BAD_REQUEST, "RFC 9112, 7.1";
    /// a chunk extension is a name, and a value if there is an equals sign
    ChunkExtension, "chunk-extension", BAD_REQUEST, "RFC 9112, 7.1.1";
    /// a message's chunk extensions are no longer than the limit
    ExtensionsTooLong, "extensions-too-long", BAD_REQUEST, "RFC 9112, 7.1.1";
    /// a chunk's size and its data both end with CR LF
    ChunkEnd, "chunk-end", BAD_REQUEST, "RFC 9112, 7.1";
    /// a trailer does not frame, route or steer its message
    TrailerField, "trailer-field", BAD_REQUEST, "RFC 9110, 6.5.1";
    /// a trailer section is no longer than the limit
    TrailersTooLong, "trailers-too-long", REQUEST_HEADER_FIELDS_TOO_LARGE, "RFC 6585, 5";
    /// a head comes within the limit
    HeadTime, "head-time", REQUEST_TIMEOUT, "RFC 9110, 15.5.9";
    /// content comes at the pace of the limit
    BodyTime, "body-time", REQUEST_TIMEOUT, "RFC 9110, 15.5.9";
    /// a request is answered before the connection ends
    ResponseMissing, "response-missing", BAD_GATEWAY, "RFC 9112, 9.5";
    /// a response begins within the limit
    ResponseTime, "response-time", GATEWAY_TIMEOUT, "RFC 9110, 15.6.5";
    /// what is sent is taken within the limit
    WriteTime, "write-time", REQUEST_TIMEOUT, "RFC 9110, 15.5.9";
    /// a response follows a request
    Unasked, "unasked", BAD_GATEWAY, "RFC 9112, 9.2";
    /// another protocol is spoken only if it was proposed
    SwitchUnasked, "switch-unasked", BAD_GATEWAY, "RFC 9110, 15.2.2";
}
