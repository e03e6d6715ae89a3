//! A path, in every way in which a server might read it.

/// Whether any step of [`STEPS`] makes another path of it.
pub(crate) fn has_other_readings(path: &str) -> bool {
    path.bytes()
        .any(|octet| octet.is_ascii_uppercase() || !octet.is_ascii() || b"%;\\".contains(&octet))
        || path.contains("//")
        || path.contains("/.")
        || path.contains("./")
        || path.ends_with('.')
}

/// What resource servers do to a path before they look at it, besides folding its case. Each step is one that some
/// server takes.
const STEPS: [fn(&str) -> String; 8] = [
    decode,
    decode_wide,
    cut,
    backslashes,
    drop_parameters,
    merge_slashes,
    resolve_dots,
    drop_endings,
];
/// Most readings of one path, and most octets of them together: a stranger decides how many there are.
const MAX_READINGS: (usize, usize) = (64, 64 * 1024);

/// What resource servers, and proxies before them, make of a path: all steps, in every order, as often as they change
/// something. None if there is no end to it.
pub(crate) fn readings(path: &str) -> Option<Vec<String>> {
    let mut readings = vec![path.to_owned()];
    let mut octets = path.len();
    let mut next = 0;
    while next < readings.len() {
        for step in STEPS {
            let further = step(&readings[next]);
            if readings.contains(&further) {
                continue;
            }
            octets += further.len();
            readings.push(further);
            if readings.len() > MAX_READINGS.0 || octets > MAX_READINGS.1 {
                return None;
            }
        }
        next += 1;
    }
    Some(readings)
}

fn decode(path: &str) -> String {
    let mut octets = Vec::with_capacity(path.len());
    let mut rest = path.as_bytes();
    while let Some((&octet, after)) = rest.split_first() {
        let escaped = match after {
            [high, low, ..] if octet == b'%' => hex(*high).zip(hex(*low)),
            _ => None,
        };
        octets.push(escaped.map_or(octet, |(high, low)| high << 4 | low));
        rest = if escaped.is_some() { &after[2..] } else { after };
    }
    String::from_utf8_lossy(&octets).into_owned()
}

/// `%u002e` is a dot to IIS.
fn decode_wide(path: &str) -> String {
    let mut decoded = String::with_capacity(path.len());
    let mut parts = path.split('%');
    decoded.extend(parts.next());
    for part in parts {
        let escaped = part
            .strip_prefix(['u', 'U'])
            .and_then(|rest| rest.split_at_checked(4))
            .filter(|(digits, _)| digits.bytes().all(|octet| octet.is_ascii_hexdigit()))
            .and_then(|(digits, rest)| Some((u32::from_str_radix(digits, 16).ok()?, rest)));
        match escaped {
            Some((code, rest)) => {
                decoded.push(char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER));
                decoded.push_str(rest);
            }
            None => decoded.extend(["%", part]),
        }
    }
    decoded
}

fn hex(digit: u8) -> Option<u8> {
    let value = char::from(digit).to_digit(16)?;
    u8::try_from(value).ok()
}

/// At what ends a path for some: a NUL in C, a query or fragment once it is decoded.
fn cut(path: &str) -> String {
    path.split(['\0', '?', '#']).next().unwrap_or_default().to_owned()
}

fn backslashes(path: &str) -> String {
    path.replace('\\', "/")
}

/// `/a;x=1/b` is `/a/b` to servlet containers (RFC 3986 §3.3 leaves parameters to them).
fn drop_parameters(path: &str) -> String {
    path.split('/')
        .map(|segment| segment.split(';').next().unwrap_or_default())
        .collect::<Vec<_>>()
        .join("/")
}

fn merge_slashes(path: &str) -> String {
    let mut merged = String::with_capacity(path.len());
    for character in path.chars() {
        if character != '/' || !merged.ends_with('/') {
            merged.push(character);
        }
    }
    merged
}

/// RFC 3986 §5.2.4.
fn resolve_dots(path: &str) -> String {
    let mut segments: Vec<&str> = Vec::new();
    let mut parts = path.split('/').skip(1).peekable();
    while let Some(segment) = parts.next() {
        let last = parts.peek().is_none();
        match segment {
            "." | ".." => {
                if segment == ".." {
                    segments.pop();
                }
                if last {
                    segments.push("");
                }
            }
            _ => segments.push(segment),
        }
    }
    format!("/{}", segments.join("/"))
}

/// Names of files end with neither a dot nor a space on Windows.
fn drop_endings(path: &str) -> String {
    let without = |segment| match segment {
        "." | ".." => segment,
        _ => segment.trim_end_matches(['.', ' ']),
    };
    path.split('/').map(without).collect::<Vec<_>>().join("/")
}

/// As servers do that know more letters than ASCII has: `K` may be written as the sign of Kelvin.
pub(crate) fn fold_case(path: &str) -> String {
    if path.is_ascii() {
        path.to_ascii_lowercase()
    } else {
        path.to_uppercase().to_lowercase()
    }
}
