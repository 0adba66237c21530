//! Compiles kernel files for the processor into a shared library and calls it.

use std::ffi::{CStr, CString, c_char, c_int, c_ulong, c_void};
use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock};

/// No contraction: what is computed twice must be the same twice. Each library keeps its symbols to itself.
const FLAGS: &[&str] = &[
    "-std=c++20",
    "-O2",
    "-march=native",
    "-ffp-contract=off",
    "-fno-strict-aliasing",
    "-fPIC",
    "-fvisibility=hidden",
    "-fno-gnu-unique",
    "-Wall",
    "-Werror",
    "-Wno-unknown-pragmas",
    "-Wno-unused-variable",
    "-Wno-unused-but-set-variable",
    "-Wno-unused-function",
];

type Launch = unsafe extern "C" fn(
    *const c_char,
    *const u32,
    *const u32,
    usize,
    *const c_void,
    usize,
    c_int,
    c_int,
) -> *const c_char;
type KernelName = unsafe extern "C" fn(usize) -> *const c_char;
type ReadCounters = unsafe extern "C" fn(*mut c_ulong);

/// What the kernels did since it was last asked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Products of 16x8x16.
    pub mma: u64,
    /// Reads of eight rows by ldmatrix.
    pub ldmatrix_reads: u64,
    /// Cycles that those take: one each where no two rows share a bank.
    pub ldmatrix_cycles: u64,
    /// Copies by cp.async.
    pub cp_async: u64,
}

impl Counters {
    /// Adds what another launch counted.
    pub fn add(&mut self, other: Self) {
        self.mma += other.mma;
        self.ldmatrix_reads += other.ldmatrix_reads;
        self.ldmatrix_cycles += other.ldmatrix_cycles;
        self.cp_async += other.cp_async;
    }
}

/// In which order warps and lanes run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Order {
    /// The first warp and lane first.
    #[default]
    Forward,
    /// The last warp and lane first.
    Backward,
}

/// When a cp.async copies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Copies {
    /// When it is waited for.
    WhenWaitedFor,
    /// As a plain copy, which is all that devices before sm_80 know.
    AtOnce,
}

/// A library of kernels. It runs one launch at a time.
#[derive(Debug)]
pub struct Library {
    library: Mutex<libloading::Library>,
    path: PathBuf,
}

/// Folder of the kernels.
pub fn kernels_folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("kernels")
}

fn shim_folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/kernels/shim")
}

/// Where libraries are built; kept between runs.
pub fn build_folder() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join("kernels-shim")
}

impl Library {
    /// The kernels as they are, built once.
    pub fn of_all_kernels() -> Arc<Self> {
        static BUILT: OnceLock<Arc<Library>> = OnceLock::new();
        let build = || {
            let folder = kernels_folder();
            let mut names = Vec::new();
            for entry in fs::read_dir(&folder).unwrap() {
                let path = entry.unwrap().path();
                if path.extension().is_some_and(|it| it == "cu") {
                    names.push(path.file_name().unwrap().to_str().unwrap().to_owned());
                }
            }
            names.sort();
            let names: Vec<_> = names.iter().map(String::as_str).collect();
            Arc::new(Self::build(&folder, &names, &build_folder()).unwrap())
        };
        Arc::clone(BUILT.get_or_init(build))
    }

    /// The named files of a folder of kernels; objects are kept in `into` and used again where nothing changed.
    ///
    /// # Errors
    /// What the compiler says.
    pub fn build(kernels: &Path, files: &[&str], into: &Path) -> Result<Self, String> {
        fs::create_dir_all(into).unwrap();
        let objects = compile(kernels, files, into)?;
        let path = into.join(format!("kernels-{:016x}.so", hash_of(&objects)));
        if !path.exists() {
            let unfinished = unfinished(&path);
            let mut link = compiler();
            link.args(["-shared", "-Wl,-Bsymbolic", "-o"]).arg(&unfinished).args(&objects);
            run(link)?;
            fs::rename(&unfinished, &path).unwrap();
        }
        #[expect(unsafe_code, reason = "loading a library runs its initializers")]
        // SAFETY: the library was built above from our own sources; its initializers only fill a list.
        let library = unsafe { libloading::Library::new(&path) }.unwrap();
        Ok(Self { library: Mutex::new(library), path })
    }

    /// Where it lies.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A folder with a stand-in for NVIDIA's driver, for the loader's search path.
    pub fn fake_cuda(into: &Path) -> PathBuf {
        Self::fake_cuda_without(into, None)
    }

    /// The same, lacking one of its functions.
    pub fn fake_cuda_without(into: &Path, lacked: Option<&str>) -> PathBuf {
        let folder = into.join("fake-cuda");
        fs::create_dir_all(&folder).unwrap();
        let mut command = compiler();
        let source = shim_folder().join("fake_cuda.cpp");
        let built = unfinished(&folder.join("libcuda.so"));
        command.args(["-std=c++17", "-O1", "-g", "-fPIC", "-shared", "-o"]).arg(&built);
        command.args(lacked.map(|name| format!("-D{name}=no_{name}")));
        command.arg(source).arg("-ldl");
        run(command).unwrap();
        // Both names, so that a real driver on this machine is not found before it.
        fs::copy(&built, folder.join("libcuda.so.1")).unwrap();
        fs::rename(&built, folder.join("libcuda.so")).unwrap();
        folder
    }

    /// A library without any function.
    pub fn empty(file: &Path) {
        let mut command = compiler();
        command.args(["-shared", "-fPIC", "-x", "c++", "/dev/null", "-o"]).arg(file);
        run(command).unwrap();
    }

    /// Names of all kernels.
    pub fn kernels(&self) -> Vec<String> {
        let library = self.library.lock().unwrap();
        let mut names = Vec::new();
        #[expect(unsafe_code, reason = "the functions are C's")]
        // SAFETY: the type is the one in `cuda_shim.cpp`; names are string literals of the library.
        unsafe {
            let name_at = library.get::<KernelName>("shim_kernel_name").unwrap();
            while let Some(name) = name_at(names.len()).as_ref() {
                names.push(CStr::from_ptr(name).to_str().unwrap().to_owned());
            }
        }
        names
    }

    /// Runs a kernel on `params` as the kernel's struct lies in memory.
    ///
    /// Returns what it counted.
    ///
    /// # Errors
    /// What the shim found wrong.
    #[expect(clippy::too_many_arguments, reason = "those of the function in C")]
    pub fn launch(
        &self,
        kernel: &str,
        grid: [u32; 3],
        block: [u32; 3],
        shared_bytes: u32,
        params: &[u8],
        order: Order,
        copies: Copies,
    ) -> Result<Counters, String> {
        // Structs want their alignment, which is 8 at most.
        let mut aligned = vec![0_u64; params.len().div_ceil(8)];
        for (to, from) in aligned.iter_mut().zip(params.chunks(8)) {
            let mut bytes = [0; 8];
            bytes[..from.len()].copy_from_slice(from);
            *to = u64::from_ne_bytes(bytes);
        }
        let name = CString::new(kernel).unwrap();
        let library = self.library.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        #[expect(unsafe_code, reason = "the functions are C's")]
        // SAFETY: the type is the one in `cuda_shim.cpp`; the lock keeps launches apart; the message lives until the
        // next one. What the kernel reads and writes are addresses that the driver gave out.
        unsafe {
            let launch = library.get::<Launch>("shim_launch").unwrap();
            let message = launch(
                name.as_ptr(),
                grid.as_ptr(),
                block.as_ptr(),
                shared_bytes as usize,
                aligned.as_ptr().cast(),
                params.len(),
                (order == Order::Backward).into(),
                (copies == Copies::AtOnce).into(),
            );
            match message.as_ref() {
                None => Ok(counters(&library)),
                Some(message) => Err(CStr::from_ptr(message).to_string_lossy().into_owned()),
            }
        }
    }
}

/// What was counted since the last call.
fn counters(library: &libloading::Library) -> Counters {
    let mut raw: [c_ulong; 4] = [0; 4];
    #[expect(unsafe_code, reason = "the functions are C's")]
    // SAFETY: the type is the one in `cuda_shim.cpp`, which writes four numbers.
    unsafe {
        library.get::<ReadCounters>("shim_read_counters").unwrap()(raw.as_mut_ptr());
    }
    let [mma, ldmatrix_reads, ldmatrix_cycles, cp_async] = raw;
    Counters { mma, ldmatrix_reads, ldmatrix_cycles, cp_async }
}

/// Objects of the shim and of the files, on all processors.
fn compile(kernels: &Path, files: &[&str], into: &Path) -> Result<Vec<PathBuf>, String> {
    let shim = sources(&shim_folder(), &["h", "cpp"]);
    let mut jobs = vec![(shim_folder().join("cuda_shim.cpp"), None, hash_of(&shim))];
    let headers = sources(kernels, &["cuh", "h"]) + &shim;
    for file in files {
        let text = fs::read_to_string(kernels.join(file)).unwrap();
        jobs.push((shim_folder().join("host.cpp"), Some(*file), hash_of(&(&headers, text))));
    }
    let object = |(_, file, hash): &(PathBuf, Option<&str>, u64)| {
        into.join(format!("{}-{hash:016x}.o", file.unwrap_or("shim")))
    };
    let objects: Vec<_> = jobs.iter().map(object).collect();
    let next = AtomicUsize::new(0);
    let failures = Mutex::new(Vec::new());
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let index = next.fetch_add(1, Ordering::Relaxed);
                    let Some((source, file, _)) = jobs.get(index) else { break };
                    let built = compile_one(kernels, source, *file, &objects[index]);
                    failures.lock().unwrap().extend(built.err());
                }
            });
        }
    });
    let failures = failures.into_inner().unwrap();
    if failures.is_empty() { Ok(objects) } else { Err(failures.join("\n")) }
}

fn compile_one(
    kernels: &Path,
    source: &Path,
    file: Option<&str>,
    object: &Path,
) -> Result<(), String> {
    if object.exists() {
        return Ok(());
    }
    let unfinished = unfinished(object);
    let mut command = compiler();
    command.args(FLAGS).arg("-I").arg(shim_folder()).arg("-I").arg(kernels);
    if let Some(file) = file {
        command.arg(format!("-DKERNELS=\"{file}\""));
    }
    command.arg("-c").arg(source).arg("-o").arg(&unfinished);
    run(command)?;
    fs::rename(&unfinished, object).unwrap();
    Ok(())
}

/// The compiler that `CXX` names, or `g++`: it must know `_Float16`.
fn compiler() -> Command {
    Command::new(std::env::var_os("CXX").unwrap_or_else(|| "g++".into()))
}

fn run(mut command: Command) -> Result<(), String> {
    let output = command.output().map_err(|error| format!("{command:?}: {error}"))?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    if output.status.success() { Ok(()) } else { Err(format!("{command:?}:\n{said}")) }
}

/// A name beside `path` that nobody else uses: several builds may make the same file.
fn unfinished(path: &Path) -> PathBuf {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    path.with_extension(format!("{}-{number}.unfinished", std::process::id()))
}

/// Text of all files of a folder with one of these extensions, in the order of their names.
fn sources(folder: &Path, extensions: &[&str]) -> String {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let wanted = |path: &PathBuf| {
        path.extension().is_some_and(|it| extensions.iter().any(|wanted| it == *wanted))
    };
    let mut paths: Vec<_> = entries.filter(wanted).collect();
    paths.sort();
    paths.iter().map(|path| fs::read_to_string(path).unwrap()).collect()
}

fn hash_of(value: &(impl Hash + ?Sized)) -> u64 {
    let mut hasher = DefaultHasher::new();
    (FLAGS, value).hash(&mut hasher);
    hasher.finish()
}
