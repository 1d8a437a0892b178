//! What is in a folder, as a page.

use alloc::string::String;
use alloc::vec::{self, Vec};
use core::cmp::Ordering;
use core::fmt::Write;
use semfio_machine::{Entry, FileKind, UnixTime};
use semfio_path::SafeName;

use crate::locate::{Located, is_shown};
use crate::negotiate::PageForm;
use crate::page::{TAIL, put_head, put_html, put_json};
use crate::percent;

/// The most names that are sorted: 10,000, of which one asks for a few MiB at worst. Those of a
/// larger folder are sent as they come from the host, in the order of their bytes.
pub const SORT_LIMIT: usize = 10_000;

/// A piece of a page ends once it has so many octets: what an outbox likes at once.
const PIECE: usize = 16 * 1024;

/// What a listing is sorted by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Key {
    #[default]
    Name,
    Size,
    Date,
}

/// The page of one folder, written piece by piece while the host lists it.
///
/// Call [`take`](Self::take) with each batch that the host lists, in their order, and
/// [`end`](Self::end) after the last; after each of them call [`write`](Self::write) until it gives
/// `false`. So it holds [`SORT_LIMIT`] names and a batch at most.
///
/// Names that [`Located`] would not find are left out, and what is neither file nor folder.
#[derive(Clone, Debug)]
pub struct Listing {
    form: PageForm,
    folder: Option<SafeName>,
    dot_names: bool,
    key: Key,
    descending: bool,
    sorted: bool,
    held: Vec<Entry>,
    queue: vec::IntoIter<Entry>,
    stage: Stage,
    begun: bool,
    rows: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// Nothing is written, since all must be there to be sorted.
    Gathering,
    /// What comes is written.
    Passing,
    /// No more comes.
    Ending,
    Done,
}

impl Listing {
    /// The page of `folder`. The query may hold `sort=name`, `size` or `date`, and `order=asc` or
    /// `desc`; anything else in it is ignored.
    pub fn new(folder: &Located, form: PageForm, query: Option<&str>, dot_names: bool) -> Self {
        let mut key = Key::Name;
        let mut descending = false;
        for parameter in query.unwrap_or_default().split('&') {
            match parameter {
                "sort=name" => key = Key::Name,
                "sort=size" => key = Key::Size,
                "sort=date" => key = Key::Date,
                "order=asc" => descending = false,
                "order=desc" => descending = true,
                _ => {}
            }
        }
        Self {
            form,
            folder: folder.name.clone(),
            dot_names,
            key,
            descending,
            sorted: true,
            held: Vec::new(),
            queue: Vec::new().into_iter(),
            stage: Stage::Gathering,
            begun: false,
            rows: 0,
        }
    }

    /// The next names of the folder.
    pub fn take(&mut self, entries: &[Entry]) {
        let served = |it: &&Entry| it.metadata.kind != FileKind::Other;
        let shown = entries.iter().filter(served).filter(|it| is_shown(&it.name, self.dot_names));
        self.held.extend(shown.cloned());
        if self.stage == Stage::Gathering && self.held.len() > SORT_LIMIT {
            self.sorted = false;
            self.stage = Stage::Passing;
        }
    }

    /// There are no more names.
    pub fn end(&mut self) {
        if self.stage == Stage::Gathering {
            let (key, descending) = (self.key, self.descending);
            self.held.sort_by(|a, b| compare(a, b, key, descending));
        }
        if self.stage != Stage::Done {
            self.stage = Stage::Ending;
        }
    }

    /// Appends the next piece of the page, some 16 KiB. `false` if nothing was left to write: all is
    /// done after [`end`](Self::end), or more names are needed.
    pub fn write(&mut self, out: &mut String) -> bool {
        if matches!(self.stage, Stage::Gathering | Stage::Done) {
            return false;
        }
        let before = out.len();
        if !core::mem::replace(&mut self.begun, true) {
            self.put_top(out);
        }
        loop {
            if out.len().saturating_sub(before) >= PIECE {
                return true;
            }
            if self.queue.as_slice().is_empty() {
                self.queue = core::mem::take(&mut self.held).into_iter();
            }
            let Some(entry) = self.queue.next() else { break };
            self.put_row(&entry, out);
        }
        if self.stage == Stage::Ending {
            self.put_bottom(out);
            self.stage = Stage::Done;
        }
        out.len() > before
    }

    fn put_top(&self, out: &mut String) {
        let path = self.path();
        match self.form {
            PageForm::Html => {
                put_head(&path, out);
                self.put_breadcrumb(out);
                if !self.sorted {
                    let _ = writeln!(out, "<p>These are too many to be sorted.</p>");
                }
                out.push_str("<table>\n<thead>\n<tr>");
                for (key, class, title) in [
                    (Key::Name, "", "Name"),
                    (Key::Size, "n", "Size"),
                    (Key::Date, "n t", "Changed (UTC)"),
                ] {
                    self.put_heading(key, class, title, out);
                }
                out.push_str("</tr>\n</thead>\n<tbody>\n");
                if self.folder.is_some() {
                    let _ = writeln!(
                        out,
                        "<tr><td class=\"d\"><a href=\"../{}\">../</a></td><td></td>\
                         <td class=\"t\"></td></tr>",
                        self.query()
                    );
                }
            }
            PageForm::Json => {
                out.push_str("{\"v\":1,\"path\":");
                put_json(&path, out);
                let _ = write!(out, ",\"sorted\":{},\"entries\":[", self.sorted);
            }
            PageForm::Plain => {}
        }
    }

    /// Links to this folder's ancestors, by how many steps up they are.
    fn put_breadcrumb(&self, out: &mut String) {
        out.push_str("<h1><nav aria-label=\"Folders\">");
        let depth = self.folder.as_ref().map_or(0, |it| it.parts().count());
        let parts = self.folder.iter().flat_map(SafeName::parts);
        for (at, part) in core::iter::once("").chain(parts).enumerate() {
            match depth.saturating_sub(at) {
                0 => out.push_str("<span aria-current=\"page\">"),
                up => {
                    out.push_str("<a href=\"");
                    (0..up).for_each(|_| out.push_str("../"));
                    out.push_str(self.query());
                    out.push_str("\">");
                }
            }
            put_html(part, out);
            out.push_str(if at == depth { "/</span>" } else { "/</a>" });
        }
        out.push_str("</nav></h1>\n");
    }

    /// The head of a column; it sorts by it, and the other way if that is so already.
    fn put_heading(&self, key: Key, class: &str, title: &str, out: &mut String) {
        let sorts = self.sorted && self.key == key;
        let _ = write!(out, "<th scope=\"col\" class=\"{class}\"");
        if sorts {
            let order = if self.descending { "descending" } else { "ascending" };
            let _ = write!(out, " aria-sort=\"{order}\"");
        }
        if !self.sorted {
            let _ = write!(out, ">{title}</th>");
            return;
        }
        // The largest and the newest are looked for more often than the smallest and the oldest.
        let descending = if sorts { !self.descending } else { key != Key::Name };
        let arrow = match (sorts, self.descending) {
            (false, _) => "",
            (true, false) => " ↑",
            (true, true) => " ↓",
        };
        let _ = write!(out, "><a href=\"{}\">{title}{arrow}</a></th>", query(key, descending));
    }

    fn put_row(&mut self, entry: &Entry, out: &mut String) {
        let Entry { name, metadata } = entry;
        let slash = if metadata.kind == FileKind::Folder { "/" } else { "" };
        match self.form {
            PageForm::Html => {
                let class = if slash.is_empty() { "" } else { " class=\"d\"" };
                let _ = write!(out, "<tr><td{class}><a href=\"");
                percent::encode(name, out);
                out.push_str(slash);
                if !slash.is_empty() {
                    out.push_str(self.query());
                }
                out.push_str("\">");
                put_html(name, out);
                let _ = write!(out, "{slash}</a></td><td class=\"n\">");
                if metadata.kind == FileKind::File {
                    let _ = write!(out, "<data value=\"{}\">", metadata.len);
                    put_size(metadata.len, out);
                    out.push_str("</data>");
                }
                out.push_str("</td><td class=\"n t\"><time>");
                put_date(metadata.modified, ' ', out);
                out.push_str("</time></td></tr>\n");
            }
            PageForm::Json => {
                out.push_str(if self.rows == 0 { "\n" } else { ",\n" });
                out.push_str("{\"name\":");
                put_json(name, out);
                if metadata.kind == FileKind::File {
                    let _ = write!(out, ",\"type\":\"file\",\"size\":{}", metadata.len);
                } else {
                    out.push_str(",\"type\":\"folder\"");
                }
                out.push_str(",\"modified\":\"");
                put_date(metadata.modified, 'T', out);
                out.push_str("\"}");
            }
            PageForm::Plain => {
                let _ = writeln!(out, "{name}{slash}");
            }
        }
        self.rows = self.rows.saturating_add(1);
    }

    fn put_bottom(&self, out: &mut String) {
        match self.form {
            PageForm::Html => {
                out.push_str("</tbody>\n</table>\n");
                match self.rows {
                    0 => out.push_str("<p>Nothing is in here.</p>\n"),
                    1 => out.push_str("<p>1 name</p>\n"),
                    rows => drop(writeln!(out, "<p>{rows} names</p>")),
                }
                out.push_str(TAIL);
            }
            PageForm::Json => out.push_str("\n]}\n"),
            PageForm::Plain => {}
        }
    }

    /// As it is shown.
    fn path(&self) -> String {
        let mut path = String::from("/");
        if let Some(name) = &self.folder {
            path.push_str(name.as_str());
            path.push('/');
        }
        path
    }

    /// What keeps the order from folder to folder.
    fn query(&self) -> &'static str {
        match (self.key, self.descending) {
            (Key::Name, false) => "",
            (key, descending) => query(key, descending),
        }
    }
}

/// As it stands in HTML.
fn query(key: Key, descending: bool) -> &'static str {
    match (key, descending) {
        (Key::Name, false) => "?sort=name&amp;order=asc",
        (Key::Name, true) => "?sort=name&amp;order=desc",
        (Key::Size, false) => "?sort=size&amp;order=asc",
        (Key::Size, true) => "?sort=size&amp;order=desc",
        (Key::Date, false) => "?sort=date&amp;order=asc",
        (Key::Date, true) => "?sort=date&amp;order=desc",
    }
}

/// Folders come first in any order; what is equal is sorted by name, from a to z.
fn compare(a: &Entry, b: &Entry, key: Key, descending: bool) -> Ordering {
    let is_folder = |it: &Entry| it.metadata.kind == FileKind::Folder;
    let names = || compare_names(&a.name, &b.name);
    let by_key = match key {
        Key::Name => names(),
        Key::Size if is_folder(a) || is_folder(b) => Ordering::Equal,
        Key::Size => a.metadata.len.cmp(&b.metadata.len),
        Key::Date => a.metadata.modified.cmp(&b.metadata.modified),
    };
    let by_key = if descending { by_key.reverse() } else { by_key };
    is_folder(b).cmp(&is_folder(a)).then(by_key).then_with(names)
}

/// As people sort: capitals do not count, and 9 comes before 10.
fn compare_names(a: &str, b: &str) -> Ordering {
    let (mut left, mut right) = (a, b);
    loop {
        let (c, d) = match (left.chars().next(), right.chars().next()) {
            (Some(c), Some(d)) => (c, d),
            // Names that differ in capitals or zeros alone must be in some order.
            (None, None) => return a.cmp(b),
            (c, d) => return c.is_some().cmp(&d.is_some()),
        };
        let order = if c.is_ascii_digit() && d.is_ascii_digit() {
            let (mine, yours) = (take_number(&mut left), take_number(&mut right));
            mine.len().cmp(&yours.len()).then_with(|| mine.cmp(yours))
        } else {
            left = left.get(c.len_utf8()..).unwrap_or_default();
            right = right.get(d.len_utf8()..).unwrap_or_default();
            c.to_lowercase().cmp(d.to_lowercase())
        };
        if order != Ordering::Equal {
            return order;
        }
    }
}

/// The digits that `text` begins with, zeros before them left out.
fn take_number<'a>(text: &mut &'a str) -> &'a str {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, rest) = text.split_at_checked(end).unwrap_or((text, ""));
    *text = rest;
    number.trim_start_matches('0')
}

/// `999 B`, `1.0 KiB`, `17 MiB`: two digits at least.
fn put_size(len: u64, to: &mut String) {
    const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    if len < 1024 {
        let _ = write!(to, "{len} B");
        return;
    }
    let (mut whole, mut rest) = (len, 0);
    for unit in UNITS {
        (whole, rest) = (whole / 1024, whole % 1024);
        if whole < 1024 {
            let tenths = rest.saturating_mul(10) / 1024;
            let _ = match whole {
                0..10 => write!(to, "{whole}.{tenths} {unit}"),
                _ => write!(to, "{whole} {unit}"),
            };
            return;
        }
    }
    let _ = rest;
}

/// `2026-11-22 03:00`, or for a machine `2026-11-22T03:00:00Z`.
fn put_date(at: UnixTime, between: char, to: &mut String) {
    let it = at.civil();
    let _ = write!(
        to,
        "{:04}-{:02}-{:02}{between}{:02}:{:02}",
        it.year, it.month, it.day, it.hour, it.minute
    );
    if between == 'T' {
        let _ = write!(to, ":{:02}Z", it.second);
    }
}
