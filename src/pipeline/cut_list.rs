//! The list of cuts that somebody else made: a time a line.

use std::io::{ErrorKind, Read as _};
use std::path::Path;

use num_rational::Ratio;
use rustix::fs::OFlags;

use crate::config::settings::Settings;
use crate::frame::{Seconds, rational_text};
use crate::media::MediaError;
use crate::pipeline::ConvertError;
use crate::plain_file;

/// Longest list.
const LONGEST_BYTES: u64 = 1 << 20;

/// The cuts listed for the clip `source`, in order, in seconds from its first frame; none where the settings name no list,
/// or the clip has none.
///
/// # Errors
/// [`ConvertError::Settings`], naming file and line; [`MediaError::Read`] where it cannot be read, which may pass.
pub fn read(settings: &Settings, source: &Path) -> Result<Vec<Seconds>, ConvertError> {
    let Some(path) = settings.content.cut_list_of(source) else { return Ok(Vec::new()) };
    let fault = |why: String| {
        ConvertError::Settings(format!("{}: the list of cuts: {why}", path.display()))
    };
    let unread = |source| MediaError::Read { path: path.clone(), source };
    let file = match plain_file::open(&path, OFlags::empty()) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::InvalidInput => {
            return Err(fault(error.to_string()));
        }
        // Of a clip whose name leaves no room for the ending there can be no list.
        Err(error)
            if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::InvalidFilename)
                && settings.content.list_may_be_missing() =>
        {
            return Ok(Vec::new());
        }
        Err(error) => return Err(unread(error).into()),
    };
    let mut bytes = Vec::new();
    file.take(LONGEST_BYTES + 1).read_to_end(&mut bytes).map_err(unread)?;
    if bytes.len() as u64 > LONGEST_BYTES {
        return Err(fault(format!(
            "more than {LONGEST_BYTES} bytes, as it has, are no list of cuts"
        )));
    }
    let text = String::from_utf8(bytes).map_err(|_| fault("it is no text in UTF-8".to_owned()))?;
    parse(&text).map_err(fault)
}

/// The cuts that [`read`] finds, as one line of text: equal for lists that cut alike, and empty where there is no cut. A list
/// that cannot be read is like no other.
#[must_use]
pub fn identity(settings: &Settings, source: &Path) -> String {
    match read(settings, source) {
        Ok(cuts) => cuts.iter().map(ToString::to_string).collect::<Vec<_>>().join(" "),
        Err(error) => error.to_string(),
    }
}

/// A time a line, as `12.48`, `1:02.5` or `1:02:03`; `#` begins a comment.
fn parse(text: &str) -> Result<Vec<Seconds>, String> {
    let mut cuts = Vec::new();
    for (number, line) in text.trim_start_matches('\u{feff}').lines().enumerate() {
        let line = line.split('#').next().unwrap_or_default().trim();
        if !line.is_empty() {
            let time = time(line).ok_or_else(|| {
                format!("line {}: `{line}` is no time: write 12.48, 1:02.5 or 1:02:03", number + 1)
            })?;
            cuts.push(time);
        }
    }
    cuts.sort_unstable();
    cuts.dedup();
    Ok(cuts)
}

fn time(text: &str) -> Option<Seconds> {
    let parts: Vec<&str> = text.split(':').collect();
    if parts.len() > 3 {
        return None;
    }
    let mut time = Ratio::from_integer(0);
    for (index, part) in parts.iter().enumerate() {
        let is_last = index + 1 == parts.len();
        let is_plain = part.bytes().all(|it| it.is_ascii_digit() || (it == b'.' && is_last));
        let value = rational_text::number(part).filter(|_| is_plain)?;
        if index > 0 && value >= Ratio::from_integer(60) {
            return None;
        }
        time = time * 60 + value;
    }
    Some(time)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_in_every_usual_form_and_nothing_else_is() {
        let r = |n, d| Ratio::new(n, d);
        let text =
            "# made by hand\n12.48\n\n1:02.5 # the goal\n1:00:00\n0\n12.48\n3.3366666666666664\n";
        let long = r(33_366_666_666_666_664, 10_i128.pow(16));
        assert_eq!(parse(text), Ok(vec![r(0, 1), long, r(1248, 100), r(125, 2), r(3600, 1)]));
        for bad in ["x", "-1", "1:60", "1:2:3:4", "1.5:2", "1e3", "1/2"] {
            let error = parse(&format!("1\n{bad}")).unwrap_err();
            assert!(error.starts_with("line 2:"), "{bad}: {error}");
        }
    }
}
