//! Pages that are made here: what they are written with, and those that tell a status.

use alloc::format;
use alloc::string::String;
use core::fmt::Write;

use crate::negotiate::PageForm;
use crate::status::Status;

/// The value of `Content-Security-Policy` for pages that are made here: nothing counts but the style
/// that stands in them, named by its hash.
pub const PAGE_POLICY: &str = "default-src 'none'; \
     style-src 'sha256-lsKd6euYZaK7i9ed7Xv/tU3UB2JGmRuX5IPSHqHJfFU='; \
     base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// In all pages, for narrow and wide windows, light and dark.
pub(crate) const STYLE: &str = "\
:root{color-scheme:light dark}\
body{margin:0 auto;max-width:64rem;padding:1rem;font:1rem/1.5 system-ui,sans-serif}\
h1{font-size:1.25rem;font-weight:600;overflow-wrap:anywhere}\
a{color:LinkText;text-decoration:none}\
a:hover,a:focus-visible{text-decoration:underline}\
a:focus-visible{outline:2px solid;outline-offset:2px;border-radius:2px}\
nav a{padding:.25rem 0}\
table{width:100%;border-collapse:collapse}\
th{text-align:left;font-weight:600;border-bottom:1px solid #8888}\
th,td{padding:0 .5rem}\
th a,td a{display:block;padding:.375rem 0;overflow-wrap:anywhere}\
tbody tr:nth-child(even){background:#8881}\
tbody tr:hover{background:#8883}\
.n{text-align:right;white-space:nowrap;font-variant-numeric:tabular-nums}\
.d{font-weight:600}\
p{color:GrayText}\
@media(max-width:36rem){.t{display:none}}";

/// Appends `text` so that it means nothing in HTML, also in quotes.
pub(crate) fn put_html(text: &str, to: &mut String) {
    for c in text.chars() {
        match c {
            '&' => to.push_str("&amp;"),
            '<' => to.push_str("&lt;"),
            '>' => to.push_str("&gt;"),
            '"' => to.push_str("&quot;"),
            '\'' => to.push_str("&#39;"),
            c => to.push(c),
        }
    }
}

/// Appends `text` as a string of JSON, with its quotes.
pub(crate) fn put_json(text: &str, to: &mut String) {
    to.push('"');
    for c in text.chars() {
        match c {
            '"' => to.push_str("\\\""),
            '\\' => to.push_str("\\\\"),
            c if c.is_control() || is_layout(c) => {
                let _ = write!(to, "\\u{:04x}", u32::from(c));
            }
            c => to.push(c),
        }
    }
    to.push('"');
}

/// Ends a line, or turns the direction of text.
fn is_layout(c: char) -> bool {
    matches!(c, '\u{61C}' | '\u{200E}' | '\u{200F}' | '\u{2028}'..='\u{202E}' | '\u{2066}'..='\u{2069}')
}

/// Appends all of a page up to its content.
pub(crate) fn put_head(title: &str, to: &mut String) {
    to.push_str(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">\n<title>",
    );
    put_html(title, to);
    to.push_str("</title>\n<style>");
    to.push_str(STYLE);
    to.push_str("</style>\n</head>\n<body>\n<main>\n");
}

/// What ends a page.
pub(crate) const TAIL: &str = "</main>\n</body>\n</html>\n";

/// A page that tells what became of a request, for one that went wrong. It holds nothing that the
/// peer sent.
pub fn status_page(status: Status, form: PageForm) -> String {
    let said = said(status);
    let mut page = String::new();
    match form {
        PageForm::Html => {
            let title = format!("{status}");
            put_head(&title, &mut page);
            page.push_str("<h1>");
            put_html(&title, &mut page);
            page.push_str("</h1>\n");
            if !said.is_empty() {
                let _ = writeln!(page, "<p>{said}</p>");
            }
            page.push_str(TAIL);
        }
        PageForm::Json => {
            let _ = write!(page, "{{\"v\":1,\"status\":{},\"reason\":", status.code());
            put_json(status.reason(), &mut page);
            page.push_str("}\n");
        }
        PageForm::Plain => {
            let _ = writeln!(page, "{status}");
            if !said.is_empty() {
                let _ = writeln!(page, "{said}");
            }
        }
    }
    page
}

/// For those who do not know what the codes mean.
fn said(status: Status) -> &'static str {
    match status {
        Status::BAD_REQUEST => "The server could not make sense of this request.",
        Status::FORBIDDEN => "This may not be read or written.",
        Status::NOT_FOUND => "There is nothing of this name here.",
        Status::METHOD_NOT_ALLOWED => "This cannot be done with what is here.",
        Status::REQUEST_TIMEOUT => "The request took too long to arrive.",
        Status::PRECONDITION_FAILED => "It was changed by somebody else meanwhile.",
        Status::CONTENT_TOO_LARGE => "This is more than is taken here.",
        Status::RANGE_NOT_SATISFIABLE => "The file does not reach that far.",
        Status::INTERNAL_SERVER_ERROR => "Something went wrong here; it is not your fault.",
        Status::SERVICE_UNAVAILABLE => "There is too much to do at the moment. Try again later.",
        Status::INSUFFICIENT_STORAGE => "There is no space left for this.",
        _ => "",
    }
}
