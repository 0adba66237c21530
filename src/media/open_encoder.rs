//! A video encoder while it works, and how it is closed.

use ffmpeg_next as ffmpeg;

use ffmpeg::frame::Video;

/// An open video encoder, which can be dropped at any time.
pub(super) struct VideoEncoder {
    encoder: ffmpeg::encoder::video::Encoder,
    started: bool,
    ended: bool,
}

impl VideoEncoder {
    /// Takes one that was just opened.
    pub(super) fn new(encoder: ffmpeg::encoder::video::Encoder) -> Self {
        Self { encoder, started: false, ended: false }
    }

    /// What a container must know of the stream.
    pub(super) fn parameters(&self) -> ffmpeg::codec::Parameters {
        ffmpeg::codec::Parameters::from(&self.encoder)
    }

    /// Takes a frame.
    pub(super) fn send(&mut self, frame: &Video) -> Result<(), ffmpeg::Error> {
        self.started = true;
        self.encoder.send_frame(frame)
    }

    /// Says that no more frames come.
    pub(super) fn end(&mut self) -> Result<(), ffmpeg::Error> {
        self.ended = true;
        self.encoder.send_eof()
    }

    /// The next packet; `None` where there is none yet, or none any more.
    pub(super) fn receive(&mut self) -> Result<Option<ffmpeg::Packet>, ffmpeg::Error> {
        let mut packet = ffmpeg::Packet::empty();
        match self.encoder.receive_packet(&mut packet) {
            Ok(()) => Ok(Some(packet)),
            Err(ffmpeg::Error::Eof | ffmpeg::Error::Other { errno: ffmpeg::error::EAGAIN }) => {
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// SVT-AV1 waits for ever when it is closed before its last packet was taken, or without a frame.
    fn wind_down(&mut self) -> Result<(), ffmpeg::Error> {
        if !self.started {
            let (width, height) = (self.encoder.width(), self.encoder.height());
            let mut frame = Video::new(self.encoder.format(), width, height);
            for plane in 0..frame.planes() {
                frame.data_mut(plane).fill(128);
            }
            frame.set_pts(Some(0));
            self.send(&frame)?;
        }
        if !self.ended {
            self.end()?;
        }
        while self.receive()?.is_some() {}
        Ok(())
    }
}

impl Drop for VideoEncoder {
    fn drop(&mut self) {
        if self.encoder.codec().is_some_and(|it| it.name() == "libsvtav1")
            && let Err(error) = self.wind_down()
        {
            log::debug!("libsvtav1 could not be wound down: {error}");
        }
    }
}
