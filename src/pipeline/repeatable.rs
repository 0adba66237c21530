//! Whether another run makes the same frames, and what that takes.
//!
//! What was found out by trying: the network on a processor makes the same frames with the same vector instructions and
//! number of threads, by which its work is divided; with others some samples are rounded otherwise. x264 and x265 encode
//! otherwise with another number of threads, SVT-AV1 does not, and FFV1 loses nothing anyway. What a decoder
//! mends of a damaged clip depends on its threads.

use crate::config::settings::{Codec, EncodeOn, Profile, Settings};
use crate::engine::EngineDescription;
use crate::media;
use crate::media::clip::DecodeStats;
use crate::report::Notice;
use crate::report::provenance::{Condition, Repeatable};

/// Threads of an encoder in profile evidence, on every machine.
const EVIDENCE_THREADS: u32 = 4;

/// Threads of an encoder whose result depends on their number; `None` is by the processor's cores.
#[must_use]
pub fn encoder_threads(settings: &Settings) -> Option<u32> {
    (settings.profile == Profile::Evidence).then_some(EVIDENCE_THREADS)
}

/// What a run with `settings`, on `engine`, over a source that was decoded with `stats`, is worth to the next.
#[must_use]
pub fn of(
    settings: &Settings,
    engine: &EngineDescription,
    driver: Option<&str>,
    stats: &DecodeStats,
) -> Repeatable {
    let given = |what: &str, value: String| Condition { what: what.to_owned(), value };
    let build = option_env!("SLOMOD_BUILD").filter(|it| !it.is_empty());
    let version = match build {
        Some(build) => format!("{} ({build})", env!("CARGO_PKG_VERSION")),
        None => env!("CARGO_PKG_VERSION").to_owned(),
    };
    let device = || match driver {
        Some(driver) => format!("{}, driver {driver}", engine.device_name),
        None => engine.device_name.clone(),
    };
    let mut conditions = vec![given("slomod", version), given("ffmpeg", media::ffmpeg_version())];
    match engine.device_kind.as_str() {
        "cuda" => conditions.push(given("device", device())),
        // The trivial engine has none.
        _ if engine.instructions.is_empty() => {}
        _ => {
            conditions.push(given("instructions", engine.instructions.clone()));
            conditions.push(given("network_threads", engine.threads.to_string()));
        }
    }
    let on_gpu = settings.encoding.encode_on == EncodeOn::Gpu;
    let by_threads = !on_gpu && matches!(settings.encoding.codec, Codec::H264 | Codec::H265);
    if by_threads && encoder_threads(settings).is_none() {
        conditions.push(given("encoder_cores", media::cores().to_string()));
    }
    let mut reasons = Vec::new();
    let mut because = |code: &str, message: &str| {
        reasons.push(Notice { code: code.to_owned(), message: message.to_owned() });
    };
    if stats.corrupt > 0 {
        because(
            "source_damaged",
            "frames of the source are damaged, and what the decoder mends of them may differ from run to run",
        );
    }
    if on_gpu {
        because(
            "encoder_on_gpu",
            "a GPU's encoder made the output; whether it makes the same of the same pictures again is not known",
        );
    }
    if !engine.steps.is_empty() {
        because(
            "device_step",
            "the network was run otherwise on the way (warnings, device_step), which depends on what the device had free then",
        );
    }
    Repeatable { same_frames: reasons.is_empty(), given: conditions, reasons }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::settings::Encoding;
    use crate::engine::Interpolator as _;
    use crate::engine::blend::Blend;

    fn whats(found: &Repeatable) -> Vec<&str> {
        found.given.iter().map(|it| it.what.as_str()).collect()
    }

    #[test]
    fn what_a_repetition_takes_and_why_it_may_fail_is_said() {
        let with = |codec, profile| {
            let encoding = Encoding { codec, ..Encoding::default() };
            Settings { encoding, profile, ..Settings::default() }
        };
        let whole = DecodeStats::default();
        let instructions = "avx2".to_owned();
        let cpu = EngineDescription { instructions, ..Blend.description() };
        let found = of(&with(Codec::H264, Profile::Standard), &cpu, None, &whole);
        assert_eq!(
            whats(&found),
            ["slomod", "ffmpeg", "instructions", "network_threads", "encoder_cores"]
        );
        assert!(found.same_frames && found.reasons.is_empty());
        for free_of_cores in [
            with(Codec::H264, Profile::Evidence),
            with(Codec::Av1, Profile::Standard),
            with(Codec::Ffv1, Profile::Standard),
        ] {
            let found = of(&free_of_cores, &cpu, None, &whole);
            assert_eq!(whats(&found), ["slomod", "ffmpeg", "instructions", "network_threads"]);
        }
        let (kind, name) = ("cuda".to_owned(), "NVIDIA A".to_owned());
        let steps = vec!["smaller batches".to_owned()];
        let gpu = EngineDescription { device_kind: kind, device_name: name, steps, ..cpu };
        let damaged = DecodeStats { corrupt: 2, ..DecodeStats::default() };
        let found = of(&with(Codec::Ffv1, Profile::Evidence), &gpu, Some("580.1"), &damaged);
        assert_eq!(found.given[2].value, "NVIDIA A, driver 580.1");
        let codes: Vec<_> = found.reasons.iter().map(|it| it.code.as_str()).collect();
        assert_eq!(
            (found.same_frames, &codes[..]),
            (false, &["source_damaged", "device_step"][..])
        );
    }
}
