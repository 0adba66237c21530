//! The kinds of events that the log tells apart, each with a number for the system's journal, so that
//! `journalctl -x` explains them (`systemd/slomod.catalog`) and `journalctl MESSAGE_ID=...` finds them.

/// A kind of event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// The daemon has configuration, journal and device.
    Ready,
    /// The daemon ends as it was told to.
    Stopped,
    /// The daemon cannot begin or go on.
    Fatal,
    /// A clip is complete and became a job.
    JobQueued,
    /// A job is worked.
    JobRunning,
    /// A job has output and report.
    JobDone,
    /// A job waits again.
    JobDelayed,
    /// A job was given up.
    JobFailed,
    /// A clip cannot be used.
    JobRefused,
    /// A clip was done before.
    JobDuplicate,
    /// A clip stays as it is.
    JobSkipped,
    /// A job is not to be worked any more.
    JobCancelled,
    /// Something about a job that changes no state.
    JobNote,
    /// A file is looked into and not complete, or cannot be read.
    FileWaits,
    /// A watched folder is not there.
    FolderOffline,
    /// A watched folder is left alone for a while.
    FolderPaused,
    /// A watched folder or an output folder does not answer, or does so again.
    FolderHung,
    /// How a watched folder is watched, or that it is not any more.
    FolderNote,
    /// Whether this daemon may write to an output folder.
    OutputFolder,
    /// The network runs on the CPU though a GPU was wanted.
    DeviceFallback,
    /// The network runs on the GPU again.
    DeviceBack,
    /// The configuration was reloaded.
    Reloaded,
    /// The configuration was not reloaded.
    ReloadFailed,
    /// No clip is begun, or clips are again, by request.
    Paused,
    /// Change events were lost.
    EventsLost,
    /// The system's clock was set back.
    ClockSetBack,
    /// A hook failed.
    HookFailed,
    /// Nobody can ask the daemon.
    ControlTrouble,
    /// Something about the daemon itself that changes nothing for clips.
    DaemonNote,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 29] = [
        Self::Ready,
        Self::Stopped,
        Self::Fatal,
        Self::JobQueued,
        Self::JobRunning,
        Self::JobDone,
        Self::JobDelayed,
        Self::JobFailed,
        Self::JobRefused,
        Self::JobDuplicate,
        Self::JobSkipped,
        Self::JobCancelled,
        Self::JobNote,
        Self::FileWaits,
        Self::FolderOffline,
        Self::FolderPaused,
        Self::FolderHung,
        Self::FolderNote,
        Self::OutputFolder,
        Self::DeviceFallback,
        Self::DeviceBack,
        Self::Reloaded,
        Self::ReloadFailed,
        Self::Paused,
        Self::EventsLost,
        Self::ClockSetBack,
        Self::HookFailed,
        Self::ControlTrouble,
        Self::DaemonNote,
    ];

    /// The journal's number of this kind. It never changes.
    #[must_use]
    pub fn id(self) -> &'static str {
        match self {
            Self::Ready => "88592a7856d24e2792364cfe596135d3",
            Self::Stopped => "0e4b3953ca07405eadd7c11858056dbe",
            Self::Fatal => "4b2d3f741f044a7ea35a36e340d08642",
            Self::JobQueued => "fb62f0fab553456d8440624b24d1dc8d",
            Self::JobRunning => "6e13e42d2127419a904949832602a072",
            Self::JobDone => "613e2cece28443f6b03f434aa9bd1791",
            Self::JobDelayed => "340e4df2203a4ac7a572aac2236d9bae",
            Self::JobFailed => "9ebfd875ca074ee28b92a2248025841b",
            Self::JobRefused => "6b99df26f6ff433c9bb2f5c96185bdc6",
            Self::JobDuplicate => "16be88116ccb4d3ab76fe47b9f8fc91f",
            Self::JobSkipped => "425aa8c63a8546d993c7588ef52b2f2f",
            Self::JobCancelled => "494366414bd24dc797671215cfce51f4",
            Self::JobNote => "c74da29a2f8244d3b294989f472f60ff",
            Self::FileWaits => "dcdad291af7d4dd5a601f8e921242f24",
            Self::FolderOffline => "98aab56e198945db8f0c461d4c0f7992",
            Self::FolderPaused => "108ddf6823854561bfb8b5864facfd83",
            Self::FolderHung => "7ff1a3a7c23d4e96a1c8cb867a7c4a43",
            Self::FolderNote => "62497e26ca5f4c0480f0eca0065a8345",
            Self::OutputFolder => "87b09d4401e84f1886545855d163302e",
            Self::DeviceFallback => "26105a0d868843cda666d5e9d11367ea",
            Self::DeviceBack => "644aeca3fdf042a4b043872e211720de",
            Self::Reloaded => "abad806d22db477bbfd7890e882cff19",
            Self::ReloadFailed => "4a709ee05fb74173a2b93eebd0830eb6",
            Self::Paused => "8928d6932d794587b3b7a2a48a806c4e",
            Self::EventsLost => "be4124f0e45b4271bbf428c2a4215fe2",
            Self::ClockSetBack => "546427cfb2f447228fd510be53e79290",
            Self::HookFailed => "78a5acd152f54d5882e448321e17cf65",
            Self::ControlTrouble => "09e4edbcb7af4a4c8a5c446c36d1d973",
            Self::DaemonNote => "683a0eb333464d90a33f2f6442695360",
        }
    }

    /// The kind of event that brings a job into `state`.
    #[must_use]
    pub fn of_state(state: &str) -> Self {
        match state {
            "running" => Self::JobRunning,
            "done" => Self::JobDone,
            "queued" => Self::JobDelayed,
            "failed" => Self::JobFailed,
            "refused" => Self::JobRefused,
            "duplicate" => Self::JobDuplicate,
            "skipped" => Self::JobSkipped,
            "cancelled" => Self::JobCancelled,
            _ => Self::JobNote,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn every_kind_has_a_number_of_its_own() {
        let ids: HashSet<&str> = Kind::ALL.iter().map(|it| it.id()).collect();
        assert_eq!(ids.len(), Kind::ALL.len());
        let is_hex = |it: &&str| it.len() == 32 && it.bytes().all(|b| b.is_ascii_hexdigit());
        assert!(ids.iter().all(is_hex));
    }
}
