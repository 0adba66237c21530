//! What the name of a clip says of its recording: cameras name their files by patterns of their own.
//!
//! The patterns are those that makers document or owners describe; the letters that say why a camera recorded and which
//! of its lenses looked are read by the tables beside them. A name that fits none says nothing.

use std::path::Path;

use crate::report::provenance::Capture;

/// A pattern of names without extension. `Y M D h m s` are digits of date and time, `#` is one or more digits, `%` a letter
/// of [`Pattern::kinds`], `&` a letter of [`Pattern::views`], `?` any character, `*` the rest; all else is itself, in any
/// case of letters.
struct Pattern {
    maker: &'static str,
    name: &'static str,
    kinds: &'static [(char, &'static str)],
    views: &'static [(char, &'static str)],
}

/// BlackVue's letters.
const BLACKVUE: &[(char, &str)] = &[
    ('N', "normal"),
    ('E', "event"),
    ('I', "event"),
    ('O', "event"),
    ('A', "event"),
    ('T', "event"),
    ('B', "event"),
    ('R', "event"),
    ('X', "event"),
    ('G', "event"),
    ('D', "event"),
    ('P', "parking"),
    ('M', "manual"),
];

/// Letters of lenses.
const VIEWS: &[(char, &str)] = &[('F', "front"), ('R', "rear"), ('I', "interior"), ('O', "rear")];

/// Viofo's: its third lens looks ahead, or inside.
const VIOFO_VIEWS: &[(char, &str)] =
    &[('F', "front"), ('R', "rear"), ('T', "telephoto"), ('I', "interior")];

/// And its letter.
const VIOFO: &[(char, &str)] = &[('P', "parking")];

/// URIVE's numbers of lenses.
const URIVE_VIEWS: &[(char, &str)] = &[('0', "front"), ('1', "rear")];

/// URIVE's letters.
const URIVE: &[(char, &str)] = &[('M', "manual"), ('E', "event"), ('P', "parking")];

/// A table with nothing in it.
const NONE: &[(char, &str)] = &[];

const fn pattern(
    maker: &'static str,
    name: &'static str,
    kinds: &'static [(char, &'static str)],
    views: &'static [(char, &'static str)],
) -> Pattern {
    Pattern { maker, name, kinds, views }
}

/// The known patterns; the first that fits is taken.
const PATTERNS: &[Pattern] = &[
    pattern("blackvue", "YYYYMMDD_hhmmss_%&", BLACKVUE, VIEWS),
    pattern("blackvue", "YYYYMMDD_hhmmss_%&?", BLACKVUE, VIEWS),
    pattern("blackvue", "YYYYMMDD_hhmmss_%", BLACKVUE, NONE),
    pattern("viofo", "YYYY_MMDD_hhmmss_#%&", VIOFO, VIOFO_VIEWS),
    pattern("viofo", "YYYY_MMDD_hhmmss_#%", VIOFO, NONE),
    pattern("viofo", "YYYY_MMDD_hhmmss_#&", NONE, VIOFO_VIEWS),
    pattern("viofo", "YYYY_MMDD_hhmmss_#", NONE, NONE),
    pattern("viofo", "YYYYMMDD_hhmmss_#%&", VIOFO, VIOFO_VIEWS),
    pattern("viofo", "YYYYMMDD_hhmmss_#&", NONE, VIOFO_VIEWS),
    pattern("viofo", "YYYYMMDDhhmmss_#%&", VIOFO, VIOFO_VIEWS),
    pattern("viofo", "YYYYMMDDhhmmss_#&", NONE, VIOFO_VIEWS),
    pattern("viofo", "YYYYMMDDhhmmss_#", NONE, NONE),
    pattern("nextbase", "yyMMDD_hhmmss_#_&?", NONE, VIEWS),
    pattern("thinkware", "REC_YYYY_MM_DD_hh_mm_ss_&", &[('-', "normal")], VIEWS),
    pattern("thinkware", "EVT_YYYY_MM_DD_hh_mm_ss_&", &[('-', "event")], VIEWS),
    pattern("thinkware", "PRK_YYYY_MM_DD_hh_mm_ss_&", &[('-', "parking")], VIEWS),
    pattern("thinkware", "MNL_YYYY_MM_DD_hh_mm_ss_&", &[('-', "manual")], VIEWS),
    pattern("urive", "%DR&_YYYYMMDD_hhmmss", URIVE, URIVE_VIEWS),
    pattern("tesla", "YYYY-MM-DD_hh-mm-ss-front", NONE, &[('-', "front")]),
    pattern("tesla", "YYYY-MM-DD_hh-mm-ss-back", NONE, &[('-', "rear")]),
    pattern("tesla", "YYYY-MM-DD_hh-mm-ss-left_*", NONE, &[('-', "left")]),
    pattern("tesla", "YYYY-MM-DD_hh-mm-ss-right_*", NONE, &[('-', "right")]),
    pattern("android", "PXL_YYYYMMDD_hhmmss*", NONE, NONE),
    pattern("android", "VID_YYYYMMDD_hhmmss*", NONE, NONE),
    pattern("dji", "DJI_YYYYMMDDhhmmss_#_?", NONE, NONE),
    pattern("dji", "DJI_#", NONE, NONE),
    pattern("gopro", "GH#", NONE, NONE),
    pattern("gopro", "GX#", NONE, NONE),
];

/// Android's own camera writes UTC into names that begin so.
const UTC_PREFIX: &str = "PXL_";

/// What the name of `path` says; the tags are left empty.
#[must_use]
pub fn by_name(path: &Path) -> Capture {
    let Some(stem) = path.file_stem().and_then(|it| it.to_str()) else { return Capture::default() };
    PATTERNS.iter().find_map(|pattern| fits(pattern, stem)).unwrap_or_default()
}

/// Digits of date and time by their letter.
#[derive(Default)]
struct Found {
    digits: [String; 7],
    sequence: String,
    kind: Option<&'static str>,
    view: Option<&'static str>,
}

/// Letters of date and time in a pattern; `y` is a year of two digits.
const FIELDS: [char; 7] = ['Y', 'M', 'D', 'h', 'm', 's', 'y'];
/// Digits of each.
const WIDTHS: [usize; 7] = [4, 2, 2, 2, 2, 2, 2];

fn fits(pattern: &Pattern, stem: &str) -> Option<Capture> {
    let mut found = Found::default();
    let fixed = |table: &[(char, &'static str)]| match table {
        [('-', word)] => Some(*word),
        _ => None,
    };
    (found.kind, found.view) = (fixed(pattern.kinds), fixed(pattern.views));
    let mut rest = stem.chars().peekable();
    // Letters are fields only behind the fixed word that some patterns begin with.
    let prefix =
        pattern.name.find("YYYY").or(pattern.name.find("yy")).unwrap_or(pattern.name.len());
    for (at, expected) in pattern.name.char_indices() {
        let field = FIELDS.iter().position(|it| *it == expected).filter(|_| at >= prefix);
        // A letter behind the last digit of its field is itself, as in `right`.
        let field = field.filter(|it| found.digits[*it].len() < WIDTHS[*it]);
        match expected {
            '*' => return capture(pattern, &found, stem),
            '#' => {
                while let Some(digit) = rest.next_if(char::is_ascii_digit) {
                    found.sequence.push(digit);
                }
                if found.sequence.is_empty() {
                    return None;
                }
            }
            '%' => found.kind = Some(look_up(pattern.kinds, rest.next()?)?),
            '&' => found.view = Some(look_up(pattern.views, rest.next()?)?),
            '?' => {
                rest.next()?;
            }
            _ => match field {
                Some(field) => found.digits[field].push(rest.next_if(char::is_ascii_digit)?),
                None if rest.next()?.eq_ignore_ascii_case(&expected) => {}
                None => return None,
            },
        }
    }
    if rest.next().is_some() { None } else { capture(pattern, &found, stem) }
}

fn look_up(table: &[(char, &'static str)], letter: char) -> Option<&'static str> {
    table.iter().find(|it| it.0 == letter.to_ascii_uppercase()).map(|it| it.1)
}

/// None where the digits are no date and time.
fn capture(pattern: &Pattern, found: &Found, stem: &str) -> Option<Capture> {
    let [year, month, day, hour, minute, second, short_year] = &found.digits;
    let year = if short_year.is_empty() { year.clone() } else { format!("20{short_year}") };
    let started_local = if year.is_empty() {
        None
    } else {
        let text = format!("{year}-{month}-{day}T{hour}:{minute}:{second}");
        Some(text.parse::<jiff::civil::DateTime>().ok().map(|_| text)?)
    };
    Some(Capture {
        name_pattern: Some(pattern.maker.into()),
        kind: found.kind.map(str::to_owned),
        view: found.view.map(str::to_owned),
        sequence: (!found.sequence.is_empty()).then(|| found.sequence.clone()),
        utc: started_local.is_some() && stem.starts_with(UTC_PREFIX),
        started_local,
        tags: Vec::new(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(name: &str) -> (String, String, String, String, String) {
        let found = by_name(Path::new(name));
        let text = |it: Option<String>| it.unwrap_or_else(|| "-".into());
        let Capture { name_pattern, kind, view, sequence, started_local, .. } = found;
        (text(name_pattern), text(kind), text(view), text(sequence), text(started_local))
    }

    #[test]
    fn names_of_known_cameras_say_when_why_and_which_lens() {
        let noon = "2026-01-31T12:34:56";
        for (name, maker, kind, view, sequence, started) in [
            ("20260131_123456_NF.mp4", "blackvue", "normal", "front", "-", noon),
            ("20260131_123456_ER.mp4", "blackvue", "event", "rear", "-", noon),
            ("20260131_123456_PFS.mp4", "blackvue", "parking", "front", "-", noon),
            ("20260131_123456_M.mp4", "blackvue", "manual", "-", "-", noon),
            ("2026_0131_123456_0042F.MP4", "viofo", "-", "front", "0042", noon),
            ("2026_0131_123456_0042PR.MP4", "viofo", "parking", "rear", "0042", noon),
            ("2026_0131_123456_0042T.MP4", "viofo", "-", "telephoto", "0042", noon),
            ("20260131_123456_0042PF.MP4", "viofo", "parking", "front", "0042", noon),
            ("20260131_123456_0042R.MP4", "viofo", "-", "rear", "0042", noon),
            ("20260131123456_000042.MP4", "viofo", "-", "-", "000042", noon),
            ("260131_123456_007_FH.MP4", "nextbase", "-", "front", "007", noon),
            ("EVT_2026_01_31_12_34_56_F.MP4", "thinkware", "event", "front", "-", noon),
            ("EDR1_20260131_123456.avi", "urive", "event", "rear", "-", noon),
            ("2026-01-31_12-34-56-left_repeater.mp4", "tesla", "-", "left", "-", noon),
            ("VID_20260131_123456.mp4", "android", "-", "-", "-", noon),
            ("DJI_20260131123456_0001_D.MP4", "dji", "-", "-", "0001", noon),
            ("GX010123.MP4", "gopro", "-", "-", "010123", "-"),
        ] {
            let expected = [maker, kind, view, sequence, started].map(str::to_owned).into();
            assert_eq!(said(name), expected, "{name}");
        }
        assert!(by_name(Path::new("/a/PXL_20260131_123456789.mp4")).utc);
        assert!(!by_name(Path::new("/a/VID_20260131_123456.mp4")).utc);
    }

    #[test]
    fn names_that_fit_none_say_nothing() {
        for name in [
            "rally.mp4",
            "20261331_123456_NF.mp4",
            "20260131_993456_NF.mp4",
            "20260131_123456_QF.mp4",
            "20260131_123456_NT.mp4",
            "20260131_123456_0042.mp4",
            "2026_0131_123456_0042F-copy.MP4",
            "DJI_.MP4",
            "",
        ] {
            assert_eq!(by_name(Path::new(name)), Capture::default(), "{name}");
        }
    }
}
