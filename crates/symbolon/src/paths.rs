//! A path, in every way in which a server might read it.

/// What resource servers make of a path. Each step is one that some server takes; they combine.
///
/// None but the path itself for the usual path, which has nothing to be read differently.
pub(crate) fn readings(path: &str) -> Vec<String> {
    let is_usual = |octet: u8| !octet.is_ascii_uppercase() && !UNUSUAL.contains(&octet);
    if path.bytes().all(is_usual) && !path.contains("//") && !path.contains("/.") {
        return Vec::new();
    }
    let steps: [fn(&str) -> String; 7] = [
        decode,
        cut_at_nul,
        backslashes,
        drop_parameters,
        merge_slashes,
        resolve_dots,
        str::to_ascii_lowercase,
    ];
    let mut readings = vec![path.to_owned()];
    // Decoded twice, since a proxy before the resource server's router may decode as well.
    for step in [decode as fn(&str) -> String].into_iter().chain(steps) {
        let further: Vec<_> = readings.iter().map(|reading| step(reading)).collect();
        for reading in further {
            if !readings.contains(&reading) {
                readings.push(reading);
            }
        }
    }
    readings
}

fn decode(path: &str) -> String {
    let mut octets = Vec::with_capacity(path.len());
    let mut rest = path.as_bytes();
    while let Some((&octet, after)) = rest.split_first() {
        let hex = |at: usize| after.get(at).and_then(|digit| char::from(*digit).to_digit(16));
        match (octet, hex(0), hex(1)) {
            (b'%', Some(high), Some(low)) => {
                octets.push(u8::try_from(high * 16 + low).unwrap_or(b'%'));
                rest = &after[2..];
            }
            _ => {
                octets.push(octet);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&octets).into_owned()
}

fn cut_at_nul(path: &str) -> String {
    path.split('\0').next().unwrap_or_default().to_owned()
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

const UNUSUAL: [u8; 3] = [b'%', b';', b'\\'];
