//! The conversion of decoded sound into samples as the encoder takes them.

use ffmpeg_next as ffmpeg;

use ffmpeg::filter::Graph;
use num_rational::Ratio;

use super::raw_audio::AudioShape;
use crate::frame::Seconds;

/// Source, conversion, and a sink in the encoder's format.
///
/// Where samples are played slower, they are resampled to that many times the rate, and then said to have the rate itself.
pub(super) fn build(
    from: &AudioShape,
    to: &AudioShape,
    slowdown: Seconds,
) -> Result<Graph, ffmpeg::Error> {
    let filter = |name| ffmpeg::filter::find(name).ok_or(ffmpeg::Error::FilterNotFound);
    let mut graph = Graph::new();
    let (rate, format, layout) = (from.rate, from.format.name(), &from.layout);
    let source = format!(
        "time_base=1/{rate}:sample_rate={rate}:sample_fmt={format}:channel_layout={layout}"
    );
    graph.add(&filter("abuffer")?, "in", &source)?;
    graph.add(&filter("abuffersink")?, "out", "")?;
    let (format, rate, layout) = (to.format.name(), to.rate, &to.layout);
    let convert = if slowdown == Ratio::from_integer(1) {
        format!("aformat=sample_fmts={format}:sample_rates={rate}:channel_layouts={layout}")
    } else {
        let (claimed, resampled) = slowed_rates(from.rate, rate, slowdown);
        format!(
            "asetrate={claimed},aresample={resampled},asetrate={rate},aformat=sample_fmts={format}:sample_rates={rate}:channel_layouts={layout}"
        )
    };
    graph.output("in", 0)?.input("out", 0)?.parse(&convert)?;
    graph.validate()?;
    Ok(graph)
}

/// Two rates whose quotient is `to` / `from` times `slowdown`: exactly, where they fit, else within a millionth.
fn slowed_rates(from: i32, to: i32, slowdown: Seconds) -> (i32, i32) {
    const MOST: i128 = 1 << 24;
    let wanted = Ratio::new(i128::from(to), i128::from(from)) * slowdown;
    let million = Ratio::new((wanted * 1_000_000).round().to_integer(), 1_000_000);
    let fits = |it: &Seconds| *it.numer() <= MOST && *it.denom() <= MOST;
    let near = if fits(&wanted) { wanted } else { million };
    // Rates as such, not a handful of samples a second.
    let scale = (i128::from(from) / near.denom()).max(1);
    let whole = |it: &i128| i32::try_from(it * scale).unwrap_or(i32::MAX);
    (whole(near.denom()), whole(near.numer()))
}

/// Tells it that nothing comes any more, so that it hands out what it holds.
pub(super) fn flush(graph: &mut Graph) -> Result<(), ffmpeg::Error> {
    let mut source = graph.get("in").ok_or(ffmpeg::Error::Bug)?;
    source.source().flush()
}
