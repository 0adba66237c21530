//! The published versions of RIFE v4, as Practical-RIFE names them, and which of them a layout's name holds.

/// The last of them, 4.26.
const LAST_MINOR: u32 = 26;
/// Minor numbers of those that there is a smaller one of.
const LITE: &[u32] = &[12, 13, 14, 15, 16, 17, 22, 25];
/// Minor numbers of those that there is a larger one of.
const HEAVY: &[u32] = &[25, 26];

/// A version of RIFE v4.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Version {
    minor: u32,
    size: Size,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Size {
    Lite,
    Plain,
    Heavy,
}

impl Version {
    fn parse(text: &str) -> Option<Self> {
        let rest = text.strip_prefix('v').unwrap_or(text).strip_prefix("4.")?;
        let (minor, size) = match rest.split_once('.') {
            None => (rest, Size::Plain),
            Some((minor, "lite")) => (minor, Size::Lite),
            Some((minor, "heavy")) => (minor, Size::Heavy),
            Some(_) => return None,
        };
        let digits = !minor.is_empty() && minor.bytes().all(|it| it.is_ascii_digit());
        let minor = minor.parse().ok().filter(|it: &u32| digits && it.to_string() == minor)?;
        let published = match size {
            Size::Lite => LITE.contains(&minor),
            Size::Plain => minor <= LAST_MINOR,
            Size::Heavy => HEAVY.contains(&minor),
        };
        published.then_some(Self { minor, size })
    }
}

/// Whether `version` is a published one, such as `4.6` or `4.25.lite`.
#[must_use]
pub fn is_published(version: &str) -> bool {
    Version::parse(version).is_some()
}

/// Whether a network of `version` has the layout `name`, such as `rife v4.14-v4.20/v4.24`.
#[must_use]
pub fn is_of(name: &str, version: &str) -> bool {
    let Some(version) = Version::parse(version) else { return false };
    let names = name.strip_prefix("rife ").unwrap_or(name);
    let held = names.split('/').any(|part| {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        match (Version::parse(first), Version::parse(last)) {
            (Some(first), Some(last)) => {
                first.size == version.size && (first.minor..=last.minor).contains(&version.minor)
            }
            _ => false,
        }
    });
    // It is 4.25, wider.
    let wide = version == Version { minor: 25, size: Size::Heavy };
    held || (wide && ["v4.25/v4.26", "v4.26.heavy"].contains(&names))
}
