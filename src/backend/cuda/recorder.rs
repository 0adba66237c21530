//! Repeats long sequences of launches as one: a driver that looks at what is launched and keeps graphs of it.
//!
//! Between [`Recorder::begin`] and [`Recorder::run`] launches are written down, not started. A sequence that came before,
//! launch for launch and byte for byte of all parameters (so with the same addresses, sizes and factors), is started as
//! one graph; any other is started launch by launch. **Invariant:** what runs is always what was written down, so a graph
//! can never be out of date.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::driver::{DeviceDescription, DeviceError, Driver, Launch, OwnedLaunch};

/// Sequences kept: batch sizes, a change of picture size and held-out pairs.
const SEQUENCES_KEPT: usize = 12;

/// Passes everything on to a driver, sequences of launches as graphs where it can.
#[derive(Debug)]
pub struct Recorder {
    inner: Arc<dyn Driver>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    recording: bool,
    tape: Vec<OwnedLaunch>,
    kept: Vec<Kept>,
    clock: u64,
    setback: Option<String>,
    /// What a call that cannot fail came upon; the next one that can returns it.
    untold: Option<DeviceError>,
}

/// A sequence that ran before.
#[derive(Debug)]
struct Kept {
    tape: Vec<OwnedLaunch>,
    graph: Graph,
    used: u64,
}

#[derive(Clone, Copy, Debug)]
enum Graph {
    /// Not tried yet: the first time everything runs by itself.
    Untried,
    /// The device cannot, or could not.
    Refused,
    /// Its number at the driver.
    Made(u64),
}

impl Recorder {
    /// Passes everything on to `inner`.
    #[must_use]
    pub fn new(inner: Arc<dyn Driver>) -> Self {
        Self { inner, state: Mutex::default() }
    }

    /// Why kernels are started one by one, where a graph could not be made.
    #[must_use]
    pub fn setback(&self) -> Option<String> {
        self.lock().setback.clone()
    }

    /// From now on launches are written down.
    pub fn begin(&self) {
        let mut state = self.lock();
        state.recording = true;
        state.tape.clear();
    }

    /// Starts what was written down; from now on launches start at once.
    ///
    /// # Errors
    /// What the driver says.
    pub fn run(&self) -> Result<(), DeviceError> {
        let mut state = self.lock();
        state.recording = false;
        let tape = std::mem::take(&mut state.tape);
        state.tell()?;
        if tape.is_empty() {
            return Ok(());
        }
        state.clock += 1;
        let State { kept, clock, setback, .. } = &mut *state;
        if let Some(kept) = kept.iter_mut().find(|kept| kept.tape == tape) {
            kept.used = *clock;
            if let Graph::Untried = kept.graph {
                kept.graph = self.capture(&kept.tape, setback);
            }
            return match kept.graph {
                Graph::Made(graph) => self.inner.replay(graph),
                _ => self.play(&kept.tape),
            };
        }
        self.play(&tape)?;
        if state.kept.len() == SEQUENCES_KEPT {
            let oldest = (0..SEQUENCES_KEPT).min_by_key(|index| state.kept[*index].used);
            let dropped = oldest.map(|index| state.kept.swap_remove(index));
            if let Some(Kept { graph: Graph::Made(graph), .. }) = dropped {
                self.inner.forget(graph);
            }
        }
        let used = state.clock;
        state.kept.push(Kept { tape, graph: Graph::Untried, used });
        Ok(())
    }

    /// Drops what was written down.
    pub fn cancel(&self) {
        let mut state = self.lock();
        state.recording = false;
        state.tape.clear();
    }

    /// A graph of launches; where the device begins or makes none, the sequence goes on without.
    fn capture(&self, tape: &[OwnedLaunch], setback: &mut Option<String>) -> Graph {
        let made = match self.inner.begin_capture() {
            Ok(false) => return Graph::Refused,
            Ok(true) => {
                let played = self.play(tape);
                let graph = self.inner.end_capture();
                played.and(graph)
            }
            Err(error) => Err(error),
        };
        made.map_or_else(
            |error| {
                let text = format!("{error}; kernels are started one by one, which is slower");
                log::warn!("{text}");
                *setback = Some(text);
                Graph::Refused
            },
            Graph::Made,
        )
    }

    fn play(&self, tape: &[OwnedLaunch]) -> Result<(), DeviceError> {
        tape.iter().try_for_each(|taped| self.inner.launch(&taped.as_launch()))
    }

    /// What was written down so far starts now, so that the order of calls holds.
    fn flush(&self) -> Result<(), DeviceError> {
        let mut state = self.lock();
        let tape = std::mem::take(&mut state.tape);
        state.tell()?;
        drop(state);
        self.play(&tape)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn tell(&mut self) -> Result<(), DeviceError> {
        self.untold.take().map_or(Ok(()), Err)
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        for kept in std::mem::take(&mut self.lock().kept) {
            if let Graph::Made(graph) = kept.graph {
                self.inner.forget(graph);
            }
        }
    }
}

impl Driver for Recorder {
    fn description(&self) -> &DeviceDescription {
        self.inner.description()
    }

    fn free_bytes(&self) -> Result<u64, DeviceError> {
        self.inner.free_bytes()
    }

    fn allocated_bytes(&self) -> u64 {
        self.inner.allocated_bytes()
    }

    fn peak_bytes(&self) -> u64 {
        self.inner.peak_bytes()
    }

    fn allocate(&self, bytes: usize) -> Result<u64, DeviceError> {
        self.inner.allocate(bytes)
    }

    fn release(&self, address: u64, bytes: usize) {
        // Launches that were written down may use it. Not every error stays with the device until the next call.
        if let Err(error) = self.flush() {
            self.lock().untold = Some(error);
        }
        self.inner.release(address, bytes);
    }

    fn upload(&self, address: u64, bytes: &[u8]) -> Result<(), DeviceError> {
        self.flush()?;
        self.inner.upload(address, bytes)
    }

    fn download(&self, address: u64, bytes: &mut [u8]) -> Result<(), DeviceError> {
        self.flush()?;
        self.inner.download(address, bytes)
    }

    fn launch(&self, launch: &Launch<'_>) -> Result<(), DeviceError> {
        let mut state = self.lock();
        state.tell()?;
        if !state.recording {
            return self.inner.launch(launch);
        }
        state.tape.push(OwnedLaunch::from(launch));
        Ok(())
    }

    fn synchronize(&self) -> Result<(), DeviceError> {
        self.flush()?;
        self.inner.synchronize()
    }

    fn upload_beside(&self, lane: usize, parts: &[(u64, &[u8])]) -> Result<(), DeviceError> {
        self.flush()?;
        self.inner.upload_beside(lane, parts)
    }

    fn empty_lanes(&self) {
        self.inner.empty_lanes();
    }

    fn consumed(&self, lane: usize) -> Result<(), DeviceError> {
        self.flush()?;
        self.inner.consumed(lane)
    }

    fn download_beside(&self, lane: usize, address: u64, bytes: usize) -> Result<(), DeviceError> {
        self.flush()?;
        self.inner.download_beside(lane, address, bytes)
    }

    fn collect(
        &self,
        lane: usize,
        address: u64,
        parts: &mut [(u64, &mut [u8])],
    ) -> Result<(), DeviceError> {
        self.inner.collect(lane, address, parts)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Writes down what reaches it.
    #[derive(Debug)]
    struct Journal {
        description: DeviceDescription,
        said: Mutex<Vec<String>>,
        begins: bool,
    }

    fn failure(doing: &str) -> DeviceError {
        DeviceError::Failed { device: "journal".into(), doing: doing.into(), reason: "no".into() }
    }

    impl Journal {
        fn say(&self, text: String) {
            self.said.lock().unwrap().push(text);
        }
    }

    impl Driver for Journal {
        fn description(&self) -> &DeviceDescription {
            &self.description
        }

        fn free_bytes(&self) -> Result<u64, DeviceError> {
            Ok(0)
        }

        fn allocated_bytes(&self) -> u64 {
            0
        }

        fn peak_bytes(&self) -> u64 {
            0
        }

        fn allocate(&self, _bytes: usize) -> Result<u64, DeviceError> {
            Ok(256)
        }

        fn release(&self, _address: u64, _bytes: usize) {
            self.say("release".into());
        }

        fn upload(&self, _address: u64, _bytes: &[u8]) -> Result<(), DeviceError> {
            self.say("upload".into());
            Ok(())
        }

        fn download(&self, _address: u64, _bytes: &mut [u8]) -> Result<(), DeviceError> {
            Ok(())
        }

        fn launch(&self, launch: &Launch<'_>) -> Result<(), DeviceError> {
            if launch.kernel == "fails" {
                return Err(failure("starting"));
            }
            self.say(format!("{}{:?}", launch.kernel, launch.params));
            Ok(())
        }

        fn synchronize(&self) -> Result<(), DeviceError> {
            Ok(())
        }

        fn begin_capture(&self) -> Result<bool, DeviceError> {
            self.say("capture".into());
            if self.begins { Ok(true) } else { Err(failure("beginning")) }
        }

        fn end_capture(&self) -> Result<u64, DeviceError> {
            self.say("captured".into());
            Ok(7)
        }

        fn replay(&self, graph: u64) -> Result<(), DeviceError> {
            self.say(format!("replay {graph}"));
            Ok(())
        }
    }

    fn journal(begins: bool) -> Arc<Journal> {
        let description = DeviceDescription {
            name: "journal".into(),
            uuid: None,
            capability: (9, 0),
            multiprocessors: 1,
            shared_bytes: 0,
            memory_bytes: 0,
            uses_host_memory: false,
            driver_version: 0,
        };
        Arc::new(Journal { description, said: Mutex::default(), begins })
    }

    fn launch(recorder: &Recorder, kernel: &str, params: &[u8]) {
        let launch = Launch { kernel, grid: [1; 3], block: [32, 1, 1], shared_bytes: 0, params };
        recorder.launch(&launch).unwrap();
    }

    fn sequence(recorder: &Recorder, params: &[u8]) {
        recorder.begin();
        launch(recorder, "a", params);
        launch(recorder, "b", &[]);
        recorder.run().unwrap();
    }

    #[test]
    fn a_sequence_is_repeated_only_while_every_byte_of_it_is_the_same() {
        let journal = journal(true);
        let recorder = Recorder::new(Arc::clone(&journal) as Arc<dyn Driver>);
        let said = || std::mem::take(&mut *journal.said.lock().unwrap());
        sequence(&recorder, &[1]);
        assert_eq!(said(), ["a[1]", "b[]"]);
        sequence(&recorder, &[1]);
        assert_eq!(said(), ["capture", "a[1]", "b[]", "captured", "replay 7"]);
        sequence(&recorder, &[1]);
        assert_eq!(said(), ["replay 7"]);
        sequence(&recorder, &[2]);
        assert_eq!(said(), ["a[2]", "b[]"]);
        sequence(&recorder, &[1]);
        assert_eq!(said(), ["replay 7"]);
    }

    #[test]
    fn where_no_graph_can_be_begun_launches_go_on_one_by_one_and_it_is_said() {
        let journal = journal(false);
        let recorder = Recorder::new(Arc::clone(&journal) as Arc<dyn Driver>);
        for expected in [&["a[1]", "b[]"][..], &["capture", "a[1]", "b[]"], &["a[1]", "b[]"]] {
            sequence(&recorder, &[1]);
            assert_eq!(std::mem::take(&mut *journal.said.lock().unwrap()), expected);
        }
        assert!(recorder.setback().unwrap().contains("one by one"));
    }

    /// Without it what comes behind would be made of what was never written.
    #[test]
    fn a_launch_that_fails_as_memory_is_given_back_is_told_by_the_next_call() {
        type Call = fn(&Recorder) -> Result<(), DeviceError>;
        let next: [Call; 4] = [
            |it| {
                it.launch(&Launch {
                    kernel: "b",
                    grid: [1; 3],
                    block: [1; 3],
                    shared_bytes: 0,
                    params: &[],
                })
            },
            |it| it.run(),
            |it| it.upload(256, &[0]),
            |it| it.download_beside(0, 256, 1),
        ];
        for next in next {
            let journal = journal(true);
            let recorder = Recorder::new(Arc::clone(&journal) as Arc<dyn Driver>);
            recorder.begin();
            launch(&recorder, "a", &[]);
            launch(&recorder, "fails", &[]);
            launch(&recorder, "c", &[]);
            recorder.release(256, 1);
            assert_eq!(next(&recorder), Err(failure("starting")));
            assert_eq!(*journal.said.lock().unwrap(), ["a[]", "release"], "nothing goes on");
            assert_eq!(next(&recorder), Ok(()), "once");
        }
    }

    #[test]
    fn an_upload_between_launches_keeps_its_place() {
        let journal = journal(true);
        let recorder = Recorder::new(Arc::clone(&journal) as Arc<dyn Driver>);
        recorder.begin();
        launch(&recorder, "a", &[]);
        recorder.upload(256, &[0]).unwrap();
        launch(&recorder, "b", &[]);
        recorder.run().unwrap();
        assert_eq!(*journal.said.lock().unwrap(), ["a[]", "upload", "b[]"]);
    }
}
