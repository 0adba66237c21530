//! HDR10's static metadata in the words of x265, which puts it into the stream; containers get it as it is.

use num_rational::Ratio;

use super::clip::Hdr;

/// Steps of chromaticity and of luminance in SMPTE ST 2086 as x265 takes them.
const CHROMATICITY_STEPS: i128 = 50_000;
const LUMINANCE_STEPS: i128 = 10_000;

/// Options of x265 for that metadata, each behind a colon; empty where there is none.
pub(super) fn x265_params(hdr: &Hdr) -> String {
    let display = hdr.mastering_display.as_deref().and_then(mastering_display);
    let light = hdr.content_light.as_deref().and_then(content_light);
    let display = display.map(|it| format!(":master-display={it}"));
    let light = light.map(|(most, mean)| format!(":max-cll={most},{mean}"));
    display.unwrap_or_default() + &light.unwrap_or_default()
}

/// A fraction of two words in steps.
fn steps(words: &[i32], steps: i128) -> i128 {
    match words {
        [num, den, ..] if *den != 0 => {
            let value = Ratio::new(i128::from(*num), i128::from(*den));
            (value * steps).round().to_integer()
        }
        _ => 0,
    }
}

/// `AVMasteringDisplayMetadata`: fractions of two words each for x and y of red, green, blue and white, for the least and the
/// most luminance; then whether chromaticity and luminance are known.
fn mastering_display(bytes: &[u8]) -> Option<String> {
    let words: Vec<i32> = bytes.as_chunks().0.iter().map(|it| i32::from_ne_bytes(*it)).collect();
    if words.get(20..22)?.contains(&0) {
        return None;
    }
    let point = |at: usize| {
        let axis = |at: usize| steps(&words[at..], CHROMATICITY_STEPS);
        format!("({},{})", axis(at), axis(at + 2))
    };
    let [red, green, blue, white] = [0, 4, 8, 12].map(point);
    let (least, most) =
        (steps(&words[16..], LUMINANCE_STEPS), steps(&words[18..], LUMINANCE_STEPS));
    Some(format!("G{green}B{blue}R{red}WP{white}L({most},{least})"))
}

/// Brightest pixel and brightest frame, in candela a square meter.
fn content_light(bytes: &[u8]) -> Option<(u32, u32)> {
    let words = bytes.as_chunks::<4>().0;
    Some((u32::from_ne_bytes(*words.first()?), u32::from_ne_bytes(*words.get(1)?)))
}
