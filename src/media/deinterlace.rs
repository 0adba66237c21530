//! Makes whole pictures of interlaced ones, by FFmpeg's bwdif (motion-compensated by BBC's w3fdif and yadif).

use ffmpeg_next as ffmpeg;

use ffmpeg::filter::Graph;
use ffmpeg::frame::Video;

use super::raw;
use crate::frame::Seconds;

/// What becomes of the fields.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pictures {
    /// Each frame becomes one picture.
    OneAFrame,
    /// Each field becomes one: twice the rate.
    OneAField,
}

/// Which frames are interlaced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Which {
    /// Those that say so themselves.
    Marked,
    /// All, whatever they say: the container says so. The upper field is the first, or it is not.
    All { top_first: bool },
}

/// A filter between decoder and importer.
pub(super) struct Deinterlacer {
    graph: Graph,
    pictures: Pictures,
    /// Seconds a tick of what comes out.
    tick: Seconds,
}

// SAFETY: the graph is owned by this value alone and runs on the thread that calls it.
#[expect(unsafe_code, reason = "ffmpeg-next does not mark its graph Send")]
unsafe impl Send for Deinterlacer {}

impl Deinterlacer {
    /// For frames like `first`, whose times count `tick`s.
    pub(super) fn new(
        first: &Video,
        tick: Seconds,
        which: Which,
        pictures: Pictures,
    ) -> Result<Self, ffmpeg::Error> {
        let filter = |name| ffmpeg::filter::find(name).ok_or(ffmpeg::Error::FilterNotFound);
        let name = raw::frame_format(first).and_then(raw::pixel_facts);
        let name = name.ok_or(ffmpeg::Error::InvalidData)?.name;
        let (width, height) = (first.width(), first.height());
        let (num, den) = (tick.numer(), tick.denom());
        let source = format!(
            "video_size={width}x{height}:pix_fmt={name}:time_base={num}/{den}:pixel_aspect=1/1"
        );
        let mut graph = Graph::new();
        graph.add(&filter("buffer")?, "in", &source)?;
        graph.add(&filter("buffersink")?, "out", "")?;
        let mode = match pictures {
            Pictures::OneAFrame => "send_frame",
            Pictures::OneAField => "send_field",
        };
        // The last filter keeps the pixel format, where bwdif takes only another one.
        let chain = match which {
            Which::Marked => format!("bwdif=mode={mode}:parity=auto:deint=interlaced"),
            Which::All { top_first: true } => format!("bwdif=mode={mode}:parity=tff:deint=all"),
            Which::All { top_first: false } => format!("bwdif=mode={mode}:parity=bff:deint=all"),
        };
        let chain = format!("{chain},format={name}");
        graph.output("in", 0)?.input("out", 0)?.parse(&chain)?;
        graph.validate()?;
        let tick = raw::time_base(sink(&mut graph)?.sink().time_base());
        Ok(Self { graph, pictures, tick })
    }

    /// Seconds a tick of the times of pictures that come out.
    pub(super) fn tick(&self) -> Seconds {
        self.tick
    }

    /// Takes a decoded frame; `None` at the end.
    pub(super) fn push(&mut self, frame: Option<&mut Video>) -> Result<(), ffmpeg::Error> {
        let mut source = self.graph.get("in").ok_or(ffmpeg::Error::Bug)?;
        match frame {
            Some(frame) => {
                let time = frame.timestamp().or(frame.pts());
                frame.set_pts(time);
                source.source().add(frame)
            }
            None => source.source().flush(),
        }
    }

    /// The next picture into `frame`; false where there is none yet, or none any more.
    pub(super) fn pull(&mut self, frame: &mut Video) -> Result<bool, ffmpeg::Error> {
        match sink(&mut self.graph)?.sink().frame(frame) {
            Ok(()) => Ok(true),
            Err(ffmpeg::Error::Eof | ffmpeg::Error::Other { errno: ffmpeg::error::EAGAIN }) => {
                Ok(false)
            }
            Err(error) => Err(error),
        }
    }

    /// How long a picture is shown whose frame was shown for `duration`.
    pub(super) fn duration(&self, duration: Seconds) -> Seconds {
        match self.pictures {
            Pictures::OneAFrame => duration,
            Pictures::OneAField => duration / 2,
        }
    }
}

fn sink(graph: &mut Graph) -> Result<ffmpeg::filter::Context, ffmpeg::Error> {
    graph.get("out").ok_or(ffmpeg::Error::Bug)
}
