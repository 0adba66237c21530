//! The daemon's configuration file: defaults, places of errors, and the shipped file that shows every key.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests fail by panicking")]

use std::path::Path;
use std::time::Duration;

use serde::de::{DeserializeOwned, Deserializer, Visitor, value::Error};
use serde::forward_to_deserialize_any;

use slomod::config::content::{Mark, Overlays};
use slomod::config::file::{
    Collision, Config, ConfigError, HookState, HookTarget, OnSuccess, Ready, SameContent, WatchBy,
    load, parse,
};
use slomod::config::raw::{RawDaemon, RawHook, RawWatch};
use slomod::config::settings::{Codec, Mode, Profile, Scale, Settings};

const MINIMAL: &str = "[[watch]]\npath = \"/srv/slomod/drop\"\noutput = \"/srv/slomod/out\"\n";

fn shipped() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/config/slomod.toml"))
}

fn read(text: &str) -> Result<Config, ConfigError> {
    parse(Path::new("test.toml"), text)
}

/// Line, column and message of the error in `text`.
fn problem(text: &str) -> (usize, usize, String) {
    match read(text) {
        Err(ConfigError::Invalid { line, column, message, .. }) => (line, column, message),
        other => panic!("{text}\nshould be refused, not {other:?}"),
    }
}

/// The minimal file with `line` added as its line 4.
fn with(line: &str) -> String {
    format!("{MINIMAL}{line}\n")
}

/// Learns a struct's keys from what it asks a deserializer for.
struct Keys<'a>(&'a mut Vec<&'static str>);

impl<'de> Deserializer<'de> for Keys<'_> {
    type Error = Error;
    fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Error> {
        Err(serde::de::Error::custom("only structs have keys"))
    }
    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        _: V,
    ) -> Result<V::Value, Error> {
        self.0.extend(fields);
        Err(serde::de::Error::custom("the keys are enough"))
    }
    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 u8 u16 u32 u64 f32 f64 char str string bytes byte_buf option unit unit_struct
        newtype_struct seq tuple tuple_struct map enum identifier ignored_any
    }
}

fn keys<T: DeserializeOwned>() -> Vec<&'static str> {
    let mut found = Vec::new();
    let _ = T::deserialize(Keys(&mut found)).err().unwrap();
    assert!(!found.is_empty());
    found
}

#[test]
fn the_shipped_file_is_the_defaults() {
    assert_eq!(load(shipped()).unwrap(), read(MINIMAL).unwrap());
}

#[test]
fn the_shipped_file_shows_every_key() {
    let text = std::fs::read_to_string(shipped()).unwrap();
    let (daemon, watch) = text.split_once("[[watch]]").unwrap();
    let (watch, hook) = watch.split_once("# [[hook]]").unwrap();
    let shows = |part: &str, key: &str| {
        part.lines().any(|line| line.trim_start_matches("# ").starts_with(&format!("{key} = ")))
    };
    for key in keys::<RawDaemon>() {
        assert!(shows(daemon, key), "[daemon] {key} is not in config/slomod.toml");
    }
    for key in keys::<RawWatch>() {
        assert!(shows(watch, key), "[[watch]] {key} is not in config/slomod.toml");
    }
    for key in keys::<RawHook>() {
        assert!(shows(hook, key), "[[hook]] {key} is not in config/slomod.toml");
    }
}

#[test]
fn the_documented_shape_is_understood() {
    let text = r#"
        [daemon]
        state_dir = "/var/lib/slomod"
        device = "auto"
        model = "auto"
        [[watch]]
        path = "/srv/slomod/drop"
        output = "/srv/slomod/out"
        mode = "slow"
        factor = 4
        settle = "5s"
    "#;
    let watch = &read(text).unwrap().watches[0];
    assert_eq!(watch.settings().factor, Some(4));
    assert_eq!(watch.settle, Some(Duration::from_secs(5)));
}

#[test]
fn hooks_and_the_address_of_the_metrics_are_understood_and_wrong_ones_refused() {
    let config = read(&format!(
        "[daemon]\nmetrics = \"127.0.0.1:9464\"\ncontrol = \"/run/x/c.sock\"\n{MINIMAL}\
         [[hook]]\ncommand = [\"/bin/mail\", \"$(x)\"]\non = [\"failed\"]\ntimeout = \"5s\"\n\
         [[hook]]\nurl = \"http://localhost/a\"\n"
    ))
    .unwrap();
    assert_eq!(config.daemon.metrics.unwrap().port(), 9464);
    assert_eq!(config.daemon.control.as_deref(), Some(Path::new("/run/x/c.sock")));
    let [mail, web] = &config.hooks[..] else { panic!("{:?}", config.hooks) };
    assert_eq!(mail.target, HookTarget::Command(vec!["/bin/mail".into(), "$(x)".into()]));
    assert_eq!((&mail.on[..], mail.timeout), (&[HookState::Failed][..], Duration::from_secs(5)));
    assert_eq!((web.on.len(), web.timeout), (3, Duration::from_secs(30)));
    for (line, column, said) in [
        ("", 1, "`command` or `url`"),
        ("command = [\"mail\"]", 11, "absolute"),
        ("command = []", 11, "absolute"),
        ("url = \"ftp://example.org\"", 7, "https://host/path"),
        ("url = \"/tmp\"", 7, "http://host"),
        ("command = [\"/a\"]\nurl = \"http://a/\"", 7, "not both"),
        ("url = \"http://a/\"\non = []", 6, "done, failed or refused"),
        ("url = \"http://a/\"\non = [\"queued\"]", 7, "queued"),
    ] {
        let found = problem(&format!("{MINIMAL}[[hook]]\n{line}\n"));
        assert!(found.1 == column && found.2.contains(said), "{line}: {found:?}");
    }
    let path = |bytes: usize| format!("/run/{}", "x".repeat(bytes - 5));
    let control = |bytes| format!("[daemon]\ncontrol = \"{}\"\n{MINIMAL}", path(bytes));
    assert_eq!(read(&control(102)).unwrap().daemon.control, Some(path(102).into()));
    let (line, column, said) = problem(&control(103));
    assert!((line, column) == (2, 11) && said.contains("103 bytes"), "{said}");
    for address in ["0.0.0.0:9464", "9464", "192.168.1.2:80", "127.0.0.1:0"] {
        let (line, column, said) =
            problem(&format!("[daemon]\nmetrics = \"{address}\"\n{MINIMAL}"));
        assert!((line, column) == (2, 11) && said.contains("127.0.0.1:9464"), "{said}");
    }
}

#[test]
fn what_is_done_with_content_is_understood_and_profiles_give_way_to_what_is_set() {
    let watch = |lines: &str| read(&with(lines)).unwrap().watches[0].settings();
    let evidence = watch("profile = \"evidence\"");
    assert_eq!(evidence, Settings { factor: Some(4), ..Profile::Evidence.settings() });
    assert_eq!(evidence.content.mark, Mark::Corner);
    let dashcam = watch("profile = \"dashcam\"");
    assert_eq!(dashcam, Settings { factor: Some(4), ..Profile::Dashcam.settings() });
    assert_eq!(dashcam.content.overlays, Overlays::Detect);
    let other =
        watch("profile = \"evidence\"\ncodec = \"h264\"\nhold_below = 0\nframe_list = false");
    assert_eq!(other.encoding.codec, Codec::H264);
    assert_eq!((other.content.hold_below, other.beside.frame_list), (None, false));
    assert_eq!(other.content.overlays, Overlays::Detect, "of the profile");
    assert!(!evidence.vmaf && watch("vmaf = true").vmaf);
    let content =
        watch("masks = [\"70%, 0, 30%, 5%\", \"0, 0, 64, 8\"]\ncut_list = \".cuts\"").content;
    assert_eq!(content.masks.len(), 2);
    assert_eq!(content.cut_list.as_deref(), Some(Path::new(".cuts")));
    for (line, column, said) in [
        ("masks = [\"1, 2, 3\"]", 10, "no mask"),
        ("hold_below = 1.5", 14, "hold_below"),
        ("cut_list = \"cuts.txt\"", 12, "absolute path"),
        ("cut_list = \"../cuts\"", 12, "absolute path"),
        ("profile = \"court\"", 11, "court"),
    ] {
        let (at_line, at_column, message) = problem(&with(line));
        assert_eq!((at_line, at_column), (4, column), "{line}");
        assert!(message.contains(said), "{line}: {message}");
    }
}

#[test]
fn the_ways_of_watching_are_understood() {
    let text = with(
        "watch_by = \"polling\"\nready = \"sentinel\"\nmarker = \"a/.here\"\nlinks_to = [\"/srv/archive/\"]",
    );
    let watch = &read(&text).unwrap().watches[0];
    assert_eq!((watch.watch_by, watch.ready), (WatchBy::Polling, Ready::Sentinel));
    assert_eq!(watch.marker.as_deref(), Some(Path::new("a/.here")));
    assert_eq!(watch.links_to, [Path::new("/srv/archive")]);
    for (line, column, said) in [
        ("marker = \"/abs\"", 10, "marker"),
        ("marker = \"../x\"", 10, "marker"),
        ("marker = \"\"", 10, "marker"),
        ("links_to = [\"/a\", \"b\"]", 19, "links_to"),
        ("watch_by = \"magic\"", 12, "magic"),
        ("ready = \"now\"", 9, "now"),
    ] {
        let found = problem(&with(line));
        assert_eq!((found.0, found.1), (4, column), "{line}: {found:?}");
        assert!(found.2.contains(said), "{found:?}");
    }
}

#[test]
fn values_reach_the_settings() {
    let text = with(
        "mode = \"smooth\"\nfps = 59.94\nscale = 0.5\ncodec = \"av1\"\ncrf = 30\npreset = 6\n\
         on_success = \"move\"\noriginals = \"/srv/originals/\"",
    );
    let watch = &read(&text).unwrap().watches[0];
    let settings = watch.settings();
    assert_eq!(settings.mode, Mode::Smooth);
    assert_eq!(settings.fps.unwrap().to_string(), "2997/50");
    assert_eq!(settings.factor, None, "fps says enough in mode smooth");
    assert_eq!(settings.scale, Scale::Fixed(0.5));
    assert_eq!(settings.encoding.codec, Codec::Av1);
    assert_eq!((settings.encoding.crf, settings.encoding.preset.as_deref()), (Some(30), Some("6")));
    assert_eq!(watch.on_success, OnSuccess::Move("/srv/originals".into()));
}

#[test]
fn what_happens_to_a_taken_name_and_whose_turn_it_is_are_read() {
    let watch = |line: &str| read(&with(line)).unwrap().watches[0].clone();
    assert_eq!((watch("").collision, watch("").priority), (Collision::Rename, 0));
    assert_eq!(watch("collision = \"skip\"").collision, Collision::Skip);
    assert_eq!(watch("collision = \"overwrite\"").collision, Collision::Overwrite);
    assert_eq!(watch("priority = -5").priority, -5);
    assert_eq!(watch("").same_content, SameContent::Refer);
    assert_eq!(watch("same_content = \"work\"").same_content, SameContent::Work);
}

#[test]
fn a_watch_inherits_the_daemons_model_and_device() {
    let text = format!("[daemon]\nmodel = \"/m.safetensors\"\ndevice = \"cpu\"\n{MINIMAL}");
    let settings = read(&text).unwrap().watches[0].settings();
    assert_eq!(settings.model.as_deref(), Some(Path::new("/m.safetensors")));
    assert_eq!(settings.device.to_string(), "cpu");
}

#[test]
fn syntax_errors_and_unknown_keys_name_their_place() {
    let (line, column, message) = problem("[daemon]\nsettle = \n");
    assert_eq!(line, 2, "{column} {message}");
    let (line, column, message) = problem(&with("factr = 4"));
    assert_eq!((line, column), (4, 1), "{message}");
    assert!(message.contains("factr"), "{message}");
    let (line, _, message) = problem("[deamon]\n");
    assert_eq!(line, 1);
    assert!(message.contains("deamon"), "{message}");
    let (_, _, message) = problem("[[watch]]\npath = \"/a\"\n");
    assert!(message.contains("output"), "{message}");
}

#[test]
fn wrong_values_are_refused_at_their_column() {
    for (wrong, column, word) in [
        ("factor = 17", 10, "2 to 16"),
        ("factor = 1", 10, "2 to 16"),
        ("factor = 2.5", 10, "2 to 16"),
        ("fps = 9", 7, "10 to 320"),
        ("fps = 321", 7, "10 to 320"),
        ("fps = \"fast\"", 7, "no rate"),
        ("fps = nan", 7, "no rate"),
        ("speed = 2", 9, "less than 1"),
        ("speed = \"1/17\"", 9, "1/16"),
        ("speed = 0.3333333333333333", 9, "at most 9 decimals"),
        ("speed = \"x\"", 9, "`speed`: `x` is no speed: write 0.3 or 1/3, or auto"),
        ("fps = \"x\"", 7, "`fps`: `x` is no rate: write 60, 59.94 or 60000/1001, or auto"),
        ("mode = \"fast\"", 8, "smooth"),
        ("mode = 3", 8, "string"),
        ("scale = 3", 9, "0.25"),
        ("passes = 3", 10, "1, 2 or 4"),
        ("passes = \"auto\"", 10, "1, 2 or 4"),
        ("codec = \"vp9\"", 9, "h264"),
        ("container = \"avi\"", 13, "mkv"),
        ("crf = 52", 7, "51"),
        ("crf = -1", 7, "51"),
        ("preset = \"quick\"", 10, "veryfast"),
        ("audio = \"mute\"", 9, "stretch"),
        ("settle = \"5 parsecs\"", 10, "5s"),
        ("settle = \"0s\"", 10, "more than 0"),
        ("settle = 5", 10, "string"),
        ("recursive = \"yes\"", 13, "bool"),
        ("on_success = \"delete\"", 14, "trash"),
        ("on_success = \"move\"", 14, "originals"),
        ("originals = \"/o\"", 13, "move"),
        ("collision = \"panic\"", 13, "rename"),
        ("same_content = \"twice\"", 16, "refer"),
        ("priority = 101", 12, "-100 to 100"),
        ("priority = \"high\"", 12, "i32"),
        ("model = \"m.safetensors\"", 9, "absolute"),
        ("quality_samples = -1", 19, "u32"),
    ] {
        let (line, found, message) = problem(&with(wrong));
        assert_eq!((line, found), (4, column), "{wrong}: {message}");
        assert!(message.contains(word), "{wrong}: {message}");
    }
}

#[test]
fn more_threads_than_any_processor_has_are_refused() {
    let threads = |value: &str| format!("[daemon]\nthreads = {value}\n{MINIMAL}");
    assert_eq!(read(&threads("1024")).unwrap().daemon.threads, 1024);
    for value in ["1025", "70000", "-1", "\"all\""] {
        let (line, column, message) = problem(&threads(value));
        assert_eq!((line, column), (2, 11), "{message}");
        assert!(message.contains("`threads` is ") && message.contains("to 1024"), "{message}");
    }
}

#[test]
fn settings_that_contradict_each_other_are_refused() {
    for (wrong, word) in [
        ("factor = 2\nspeed = 0.5", "give one"),
        ("mode = \"smooth\"\nspeed = 0.5", "slow"),
        ("mode = \"smooth\"\nfactor = 2\nfps = 60", "give one"),
        ("codec = \"ffv1\"\ncontainer = \"mp4\"", "mkv"),
        ("codec = \"av1\"\ncontainer = \"mov\"", "mp4 or mkv"),
        ("codec = \"ffv1\"\ncrf = 3", "lossless"),
        ("crf = 52", "0 to 51"),
        ("codec = \"ffv1\"\npreset = \"slow\"", "FFV1 has none"),
        ("codec = \"av1\"\npreset = \"slow\"", "0 to 13"),
    ] {
        let (_, _, message) = problem(&with(wrong));
        assert!(message.contains(word), "{wrong}: {message}");
    }
    assert!(read(&with("factor = 8\nfps = 50")).is_ok(), "factor with playback rate makes sense");
}

/// W30.
#[test]
fn folders_that_would_feed_slomod_its_own_files_are_refused() {
    let watch =
        |path: &str, output: &str| format!("[[watch]]\npath = \"{path}\"\noutput = \"{output}\"\n");
    for (text, line, word) in [
        (watch("/a", "/a"), 3, "watched folder"),
        (watch("/a", "/a/out/"), 3, "watched folder"),
        (watch("/a", "/a/./out"), 3, "watched folder"),
        (watch("/a", "/b") + &watch("/b", "/c"), 3, "watched folder"),
        (watch("/a", "/b") + &watch("/a/", "/c"), 5, "twice"),
        (watch("/a", "/b") + "recursive = true\n" + &watch("/a/x", "/c"), 6, "lies in"),
        (watch("a", "/b"), 2, "absolute"),
        (watch("/a", "/b/../a"), 3, ".."),
    ] {
        let (found, _, message) = problem(&text);
        assert_eq!(found, line, "{text}{message}");
        assert!(message.contains(word), "{text}{message}");
    }
    assert!(read(&watch("/a", "/ab")).is_ok(), "a common beginning of names is no nesting");
    assert!(problem("").2.contains("[[watch]]"));
}

#[test]
fn columns_count_characters() {
    // Of the second folder, behind four characters of twelve bytes.
    let (line, column, message) = problem(&with("links_to = [\"/설정설정\", \"b\"]"));
    assert_eq!((line, column), (4, 22), "{message}");
    let text = format!("[daemon]\nstate_dir = \"/설정\" # 설정\nreserve = \"ä\"\n{MINIMAL}");
    let (line, column, message) = problem(&text);
    assert_eq!((line, column), (3, 11), "{message}");
}

#[test]
fn a_missing_file_is_named() {
    let error = load(Path::new("/nonexistent/slomod.toml")).unwrap_err();
    assert!(error.to_string().contains("/nonexistent/slomod.toml"));
}

/// What only the machine can tell of a configuration, and the daemon only once it runs.
#[test]
fn a_check_says_of_folders_that_are_files_long_sockets_and_taken_ports_what_to_do() {
    let place = tempfile::tempdir().unwrap();
    let path = |name: &str| place.path().join(name).display().to_string();
    std::fs::write(path("file"), "x").unwrap();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let deep = format!("{}/{}", path("state"), "d".repeat(100));
    let text = format!(
        "[daemon]\nstate_dir = \"{deep}\"\nmetrics = \"{address}\"\nmodel = \"blend\"\n\
         [[watch]]\npath = \"{}\"\noutput = \"{}\"\nfactor = 2\n",
        path("file"),
        path("out")
    );
    std::fs::write(path("slomod.toml"), text).unwrap();
    let mut check = std::process::Command::new(env!("CARGO_BIN_EXE_slomod"));
    let run = check.args(["check", "--config", &path("slomod.toml")]).output().unwrap();
    let said = String::from_utf8(run.stdout).unwrap();
    for expected in [
        format!("{} (watched): Not a directory (os error 20); it is a file", path("file")),
        format!("{deep}/control.sock: has {} bytes", deep.len() + "/control.sock".len()),
        format!("{address}: another program listens there"),
    ] {
        assert!(said.contains(&expected), "{expected}\n{said}");
    }
    assert_eq!(run.status.code(), Some(78), "{said}");
    drop(taken);
}
