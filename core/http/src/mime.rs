//! Media types by the ends of names.

/// What is known of a file by its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MediaType {
    /// The value of `Content-Type`; of text with `charset=utf-8`.
    pub text: &'static str,
    /// Whether a content coding makes such a file much shorter.
    pub compressible: bool,
}

impl MediaType {
    /// Of a file whose name ends in nothing that is known.
    pub const UNKNOWN: Self = packed("application/octet-stream");

    /// By what stands behind the last dot of a file's name, in capitals or not. A dot that the name
    /// begins with does not count.
    pub fn of(file_name: &str) -> Self {
        let Some((stem, extension)) = file_name.rsplit_once('.') else { return Self::UNKNOWN };
        let mut folded = [0; LONGEST];
        let Some(folded) = folded.get_mut(..extension.len()) else { return Self::UNKNOWN };
        folded.copy_from_slice(extension.as_bytes());
        folded.make_ascii_lowercase();
        let found = TABLE.binary_search_by(|(known, _)| known.as_bytes().cmp(folded));
        let known = found.ok().filter(|_| !stem.is_empty()).and_then(|at| TABLE.get(at));
        known.map_or(Self::UNKNOWN, |(_, media_type)| *media_type)
    }
}

const fn plain(text: &'static str) -> MediaType {
    MediaType { text, compressible: true }
}

const fn packed(text: &'static str) -> MediaType {
    MediaType { text, compressible: false }
}

/// The most octets of an extension in [`TABLE`].
const LONGEST: usize = 11;

/// By extension, in order. Registered types where there is one, else what browsers go by. Programs'
/// sources are plain text: to be looked at, not run.
#[rustfmt::skip]
const TABLE: &[(&str, MediaType)] = &[
    ("3gp", packed("video/3gpp")),
    ("7z", packed("application/x-7z-compressed")),
    ("aac", packed("audio/aac")),
    ("adoc", plain("text/plain; charset=utf-8")),
    ("aiff", plain("audio/aiff")),
    ("apk", packed("application/vnd.android.package-archive")),
    ("apng", packed("image/apng")),
    ("asc", plain("text/plain; charset=utf-8")),
    ("atom", plain("application/atom+xml; charset=utf-8")),
    ("avi", packed("video/x-msvideo")),
    ("avif", packed("image/avif")),
    ("awk", plain("text/plain; charset=utf-8")),
    ("bash", plain("text/plain; charset=utf-8")),
    ("bib", plain("text/plain; charset=utf-8")),
    ("bmp", plain("image/bmp")),
    ("bz2", packed("application/x-bzip2")),
    ("c", plain("text/plain; charset=utf-8")),
    ("cc", plain("text/plain; charset=utf-8")),
    ("cfg", plain("text/plain; charset=utf-8")),
    ("cjs", plain("text/javascript; charset=utf-8")),
    ("conf", plain("text/plain; charset=utf-8")),
    ("cpp", plain("text/plain; charset=utf-8")),
    ("crt", plain("application/pkix-cert")),
    ("css", plain("text/css; charset=utf-8")),
    ("csv", plain("text/csv; charset=utf-8")),
    ("deb", packed("application/vnd.debian.binary-package")),
    ("diff", plain("text/plain; charset=utf-8")),
    ("doc", plain("application/msword")),
    ("docx", packed("application/vnd.openxmlformats-officedocument.wordprocessingml.document")),
    ("dtd", plain("application/xml-dtd")),
    ("el", plain("text/plain; charset=utf-8")),
    ("eml", plain("message/rfc822")),
    ("eot", plain("application/vnd.ms-fontobject")),
    ("eps", plain("application/postscript")),
    ("epub", packed("application/epub+zip")),
    ("flac", packed("audio/flac")),
    ("geojson", plain("application/geo+json")),
    ("gif", packed("image/gif")),
    ("glb", packed("model/gltf-binary")),
    ("gltf", plain("model/gltf+json")),
    ("go", plain("text/plain; charset=utf-8")),
    ("gpx", plain("application/gpx+xml; charset=utf-8")),
    ("gz", packed("application/gzip")),
    ("h", plain("text/plain; charset=utf-8")),
    ("heic", packed("image/heic")),
    ("hpp", plain("text/plain; charset=utf-8")),
    ("hs", plain("text/plain; charset=utf-8")),
    ("htm", plain("text/html; charset=utf-8")),
    ("html", plain("text/html; charset=utf-8")),
    ("ico", plain("image/vnd.microsoft.icon")),
    ("ics", plain("text/calendar; charset=utf-8")),
    ("ini", plain("text/plain; charset=utf-8")),
    ("ipynb", plain("application/json")),
    ("iso", packed("application/x-iso9660-image")),
    ("jar", packed("application/java-archive")),
    ("java", plain("text/plain; charset=utf-8")),
    ("jpeg", packed("image/jpeg")),
    ("jpg", packed("image/jpeg")),
    ("js", plain("text/javascript; charset=utf-8")),
    ("json", plain("application/json")),
    ("jsonl", plain("application/x-ndjson")),
    ("jsonld", plain("application/ld+json")),
    ("jxl", packed("image/jxl")),
    ("kml", plain("application/vnd.google-earth.kml+xml; charset=utf-8")),
    ("kt", plain("text/plain; charset=utf-8")),
    ("log", plain("text/plain; charset=utf-8")),
    ("lua", plain("text/plain; charset=utf-8")),
    ("m3u8", plain("application/vnd.apple.mpegurl")),
    ("m4a", packed("audio/mp4")),
    ("m4v", packed("video/mp4")),
    ("map", plain("application/json")),
    ("markdown", plain("text/markdown; charset=utf-8")),
    ("mbox", plain("application/mbox")),
    ("md", plain("text/markdown; charset=utf-8")),
    ("mid", plain("audio/midi")),
    ("midi", plain("audio/midi")),
    ("mjs", plain("text/javascript; charset=utf-8")),
    ("mkv", packed("video/matroska")),
    ("ml", plain("text/plain; charset=utf-8")),
    ("mov", packed("video/quicktime")),
    ("mp3", packed("audio/mpeg")),
    ("mp4", packed("video/mp4")),
    ("mpd", plain("application/dash+xml; charset=utf-8")),
    ("mpeg", packed("video/mpeg")),
    ("mpg", packed("video/mpeg")),
    ("ndjson", plain("application/x-ndjson")),
    ("obj", plain("model/obj")),
    ("odg", packed("application/vnd.oasis.opendocument.graphics")),
    ("odp", packed("application/vnd.oasis.opendocument.presentation")),
    ("ods", packed("application/vnd.oasis.opendocument.spreadsheet")),
    ("odt", packed("application/vnd.oasis.opendocument.text")),
    ("oga", packed("audio/ogg")),
    ("ogg", packed("audio/ogg")),
    ("ogv", packed("video/ogg")),
    ("opus", packed("audio/ogg")),
    ("otf", plain("font/otf")),
    ("parquet", packed("application/vnd.apache.parquet")),
    ("patch", plain("text/plain; charset=utf-8")),
    ("pcap", plain("application/vnd.tcpdump.pcap")),
    ("pdf", packed("application/pdf")),
    ("pem", plain("application/x-pem-file")),
    ("pl", plain("text/plain; charset=utf-8")),
    ("png", packed("image/png")),
    ("ppm", plain("image/x-portable-pixmap")),
    ("ppt", plain("application/vnd.ms-powerpoint")),
    ("pptx", packed("application/vnd.openxmlformats-officedocument.presentationml.presentation")),
    ("properties", plain("text/plain; charset=utf-8")),
    ("ps", plain("application/postscript")),
    ("psd", packed("image/vnd.adobe.photoshop")),
    ("py", plain("text/plain; charset=utf-8")),
    ("rar", packed("application/vnd.rar")),
    ("rb", plain("text/plain; charset=utf-8")),
    ("rpm", packed("application/x-rpm")),
    ("rs", plain("text/plain; charset=utf-8")),
    ("rss", plain("application/rss+xml; charset=utf-8")),
    ("rst", plain("text/plain; charset=utf-8")),
    ("rtf", plain("application/rtf")),
    ("sh", plain("text/plain; charset=utf-8")),
    ("sig", packed("application/pgp-signature")),
    ("sql", plain("text/plain; charset=utf-8")),
    ("sqlite", plain("application/vnd.sqlite3")),
    ("sqlite3", plain("application/vnd.sqlite3")),
    ("srt", plain("text/plain; charset=utf-8")),
    ("stl", plain("model/stl")),
    ("svg", plain("image/svg+xml; charset=utf-8")),
    ("swift", plain("text/plain; charset=utf-8")),
    ("tar", plain("application/x-tar")),
    ("tex", plain("text/plain; charset=utf-8")),
    ("text", plain("text/plain; charset=utf-8")),
    ("tgz", packed("application/gzip")),
    ("tif", packed("image/tiff")),
    ("tiff", packed("image/tiff")),
    ("toml", plain("text/plain; charset=utf-8")),
    ("torrent", packed("application/x-bittorrent")),
    ("ts", packed("video/mp2t")),
    ("tsv", plain("text/tab-separated-values; charset=utf-8")),
    ("ttc", plain("font/collection")),
    ("ttf", plain("font/ttf")),
    ("txt", plain("text/plain; charset=utf-8")),
    ("txz", packed("application/x-xz")),
    ("vcard", plain("text/vcard; charset=utf-8")),
    ("vcf", plain("text/vcard; charset=utf-8")),
    ("vtt", plain("text/vtt; charset=utf-8")),
    ("wasm", plain("application/wasm")),
    ("wav", plain("audio/wav")),
    ("weba", packed("audio/webm")),
    ("webm", packed("video/webm")),
    ("webmanifest", plain("application/manifest+json")),
    ("webp", packed("image/webp")),
    ("woff", packed("font/woff")),
    ("woff2", packed("font/woff2")),
    ("xhtml", plain("application/xhtml+xml; charset=utf-8")),
    ("xls", plain("application/vnd.ms-excel")),
    ("xlsx", packed("application/vnd.openxmlformats-officedocument.spreadsheetml.sheet")),
    ("xml", plain("text/xml; charset=utf-8")),
    ("xsd", plain("text/xml; charset=utf-8")),
    ("xsl", plain("text/xml; charset=utf-8")),
    ("xz", packed("application/x-xz")),
    ("yaml", plain("application/yaml")),
    ("yml", plain("application/yaml")),
    ("zig", plain("text/plain; charset=utf-8")),
    ("zip", packed("application/zip")),
    ("zst", packed("application/zstd")),
];

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::format;

    #[test]
    fn every_row_of_the_table_is_found() {
        for (extension, media_type) in TABLE {
            assert_eq!(MediaType::of(&format!("a.{extension}")), *media_type, "{extension}");
            let is_text = media_type.text.starts_with("text/") || media_type.text.contains("xml");
            let described = media_type.text.ends_with("; charset=utf-8");
            let office = media_type.text.contains("openxml") || extension == &"dtd";
            assert_eq!(described, is_text && !office, "{extension}");
        }
        assert!(TABLE.windows(2).all(|pair| matches!(pair, [(a, _), (b, _)] if a < b)));
        assert_eq!(TABLE.iter().map(|(it, _)| it.len()).max(), Some(LONGEST));
    }
}
