//! Files of encoded pictures, exact to the tick: what the encoder of a segment made, kept for the case of a restart.
//!
//! A file is [`MAGIC`] and then packets, each a head of [`HEAD_BYTES`] and its data. The head holds, little-endian, pts,
//! dts and duration in the encoder's ticks (8 bytes each), FFmpeg's flags and the length of the data (4 each).

use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read as _, Write as _};
use std::path::{Path, PathBuf};

use ffmpeg_next as ffmpeg;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::MediaError;
use super::mux::write_io;
use super::probe::read_error;
use super::raw;

use crate::hex::hex;

/// First bytes of a file.
const MAGIC: &[u8; 17] = b"slomod packets 1\n";
/// Bytes before the data of a packet.
const HEAD_BYTES: usize = 32;
/// Longest packet that is believed: more than an uncompressed picture of the largest size.
const LONGEST_BYTES: usize = 1 << 30;
/// Stands for a dts that is not known, as in FFmpeg.
const NO_TIME: i64 = i64::MIN;

/// What a finished file holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kept {
    /// Size.
    pub size_bytes: u64,
    /// SHA-256 in hex.
    pub sha256: String,
    /// Packets, which are pictures.
    pub packets: u64,
}

/// A file being written. Dropped before [`Self::close`], it is removed.
pub(super) struct PacketWriter {
    path: PathBuf,
    file: BufWriter<File>,
    hash: Sha256,
    size_bytes: u64,
    packets: u64,
    closed: bool,
}

impl PacketWriter {
    /// Creates (or empties) the file.
    pub(super) fn create(path: &Path) -> Result<Self, MediaError> {
        let file = File::create(path).map_err(|error| write_io(path, error))?;
        let mut writer = Self {
            path: path.to_owned(),
            file: BufWriter::new(file),
            hash: Sha256::new(),
            size_bytes: 0,
            packets: 0,
            closed: false,
        };
        writer.put(MAGIC)?;
        Ok(writer)
    }

    /// Adds a packet whose times are in the encoder's ticks.
    pub(super) fn add(&mut self, packet: &ffmpeg::Packet) -> Result<(), MediaError> {
        let data = packet.data().unwrap_or_default();
        let length = u32::try_from(data.len()).unwrap_or(u32::MAX);
        let mut head = Vec::with_capacity(HEAD_BYTES);
        let times = [packet.pts(), packet.dts(), Some(packet.duration())];
        times.iter().for_each(|it| head.extend(it.unwrap_or(NO_TIME).to_le_bytes()));
        head.extend(raw::packet_flags(packet).to_le_bytes());
        head.extend(length.to_le_bytes());
        self.put(&head)?;
        self.put(data)?;
        self.packets += 1;
        Ok(())
    }

    /// Makes the file durable.
    pub(super) fn close(mut self) -> Result<Kept, MediaError> {
        let synced = self.file.flush().and_then(|()| self.file.get_ref().sync_all());
        synced.map_err(|error| write_io(&self.path, error))?;
        self.closed = true;
        let sha256 = hex(&self.hash.finalize_reset());
        Ok(Kept { size_bytes: self.size_bytes, sha256, packets: self.packets })
    }

    fn put(&mut self, bytes: &[u8]) -> Result<(), MediaError> {
        self.hash.update(bytes);
        self.size_bytes += bytes.len() as u64;
        self.file.write_all(bytes).map_err(|error| write_io(&self.path, error))
    }
}

impl Drop for PacketWriter {
    fn drop(&mut self) {
        if !self.closed
            && let Err(error) = std::fs::remove_file(&self.path)
        {
            log::warn!("{}: an unfinished segment cannot be removed: {error}", self.path.display());
        }
    }
}

/// Reads a file back.
pub(super) struct PacketReader {
    path: PathBuf,
    file: BufReader<File>,
}

impl PacketReader {
    /// Opens a finished file.
    pub(super) fn open(path: &Path) -> Result<Self, MediaError> {
        let file = File::open(path).map_err(|error| read_error(path, error))?;
        let mut reader = Self { path: path.to_owned(), file: BufReader::new(file) };
        let mut magic = [0; MAGIC.len()];
        reader.fill(&mut magic)?;
        if magic != *MAGIC {
            return Err(reader.damaged("it does not begin as a file of packets"));
        }
        Ok(reader)
    }

    /// The next packet, its times in the encoder's ticks; `None` at the end.
    pub(super) fn next(&mut self) -> Result<Option<ffmpeg::Packet>, MediaError> {
        use io::BufRead as _;
        if self.file.fill_buf().map_err(|error| read_error(&self.path, error))?.is_empty() {
            return Ok(None);
        }
        let (mut long, mut short) = ([0; 8], [0; 4]);
        let mut times = [0; 3];
        for time in &mut times {
            self.fill(&mut long)?;
            *time = i64::from_le_bytes(long);
        }
        self.fill(&mut short)?;
        let flags = i32::from_le_bytes(short);
        self.fill(&mut short)?;
        let length = usize::try_from(u32::from_le_bytes(short)).unwrap_or(usize::MAX);
        if length > LONGEST_BYTES {
            return Err(self.damaged("a packet is too long"));
        }
        let mut packet = ffmpeg::Packet::new(length);
        match packet.data_mut() {
            Some(data) if data.len() == length => {
                let read = self.file.read_exact(data);
                read.map_err(|error| read_error(&self.path, error))?;
            }
            _ => return Err(read_error(&self.path, io::ErrorKind::OutOfMemory.into())),
        }
        let known = |time: i64| (time != NO_TIME).then_some(time);
        packet.set_pts(known(times[0]));
        packet.set_dts(known(times[1]));
        packet.set_duration(times[2]);
        raw::set_packet_flags(&mut packet, flags);
        Ok(Some(packet))
    }

    fn fill(&mut self, bytes: &mut [u8]) -> Result<(), MediaError> {
        self.file.read_exact(bytes).map_err(|error| read_error(&self.path, error))
    }

    fn damaged(&self, what: &str) -> MediaError {
        read_error(&self.path, io::Error::new(io::ErrorKind::InvalidData, what.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packets_come_back_as_they_were() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        let mut writer = PacketWriter::create(&path).unwrap();
        for (number, dts) in [(0, Some(-7)), (1, None), (2, Some(9_000_000_000))] {
            let mut packet = ffmpeg::Packet::copy(&vec![number; usize::from(number) * 5000]);
            packet.set_pts(Some(i64::from(number) * 40));
            packet.set_dts(dts);
            packet.set_duration(3);
            raw::set_packet_flags(&mut packet, 0x11);
            writer.add(&packet).unwrap();
        }
        let kept = writer.close().unwrap();
        assert_eq!(kept.packets, 3);
        assert_eq!(kept.size_bytes, std::fs::metadata(&path).unwrap().len());
        let mut reader = PacketReader::open(&path).unwrap();
        for (number, dts) in [(0_u8, Some(-7)), (1, None), (2, Some(9_000_000_000))] {
            let packet = reader.next().unwrap().unwrap();
            assert_eq!(packet.pts(), Some(i64::from(number) * 40));
            assert_eq!((packet.dts(), packet.duration()), (dts, 3));
            assert_eq!(raw::packet_flags(&packet), 0x11, "a flag that ffmpeg-next does not know");
            let data = packet.data().unwrap_or_default();
            assert_eq!(data, vec![number; usize::from(number) * 5000]);
        }
        assert!(reader.next().unwrap().is_none());
    }

    #[test]
    fn a_file_that_was_not_closed_is_removed_and_a_cut_one_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        drop(PacketWriter::create(&path).unwrap());
        assert!(!path.exists());
        let mut writer = PacketWriter::create(&path).unwrap();
        writer.add(&ffmpeg::Packet::copy(&[1; 100])).unwrap();
        writer.close().unwrap();
        let bytes = std::fs::read(&path).unwrap();
        for length in [0, 5, MAGIC.len() + 10, bytes.len() - 1] {
            std::fs::write(&path, &bytes[..length]).unwrap();
            let read = PacketReader::open(&path).and_then(|mut it| it.next().map(|_| ()));
            assert!(read.is_err(), "{length} bytes");
        }
    }
}
