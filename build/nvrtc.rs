//! NVIDIA's run-time compiler as a library: CUDA C++ to machine code, with no GPU.

use std::ffi::{CString, c_char, c_int, c_void};
use std::fs;
use std::path::Path;
use std::ptr;

use libloading::os::unix::{Library, RTLD_GLOBAL, RTLD_NOW, Symbol};

use crate::Target;
use crate::sources::Source;
use crate::toolkit::Found;

/// The loaded compiler. Its functions may be called from several threads.
#[derive(Debug)]
pub struct Compiler {
    library: Library,
    _builtins: Library,
    includes: Vec<CString>,
    name: String,
}

type Program = *mut c_void;
type Status = c_int;
type Create = unsafe extern "C" fn(
    *mut Program,
    *const c_char,
    *const c_char,
    c_int,
    *const *const c_char,
    *const *const c_char,
) -> Status;
type Compile = unsafe extern "C" fn(Program, c_int, *const *const c_char) -> Status;
type Size = unsafe extern "C" fn(Program, *mut usize) -> Status;
type Content = unsafe extern "C" fn(Program, *mut c_char) -> Status;
type Destroy = unsafe extern "C" fn(*mut Program) -> Status;
type Version = unsafe extern "C" fn(*mut c_int, *mut c_int) -> Status;
type ArchitectureCount = unsafe extern "C" fn(*mut c_int) -> Status;
type Architectures = unsafe extern "C" fn(*mut c_int) -> Status;

impl Compiler {
    /// Loads it and checks that it knows the compute capabilities.
    ///
    /// # Errors
    /// If the library cannot be loaded, is no NVRTC, or does not know one of them.
    pub fn load(found: &Found, capabilities: &[u32]) -> Result<Self, String> {
        // The builtins come first: NVRTC asks for them by name, and finds them where they are loaded already.
        let builtins = open(&found.builtins)?;
        let library = open(&found.library)?;
        let includes =
            found.includes.iter().map(|it| option("-I", it)).collect::<Result<_, _>>()?;
        let mut compiler = Self { library, _builtins: builtins, includes, name: String::new() };
        compiler.name = compiler.identity(&found.library)?;
        let known = compiler.architectures()?;
        match capabilities.iter().find(|it| !known.contains(it)) {
            Some(unknown) => Err(format!("{} does not know sm_{unknown}", found.library.display())),
            None => Ok(compiler),
        }
    }

    /// Version and build: what was compiled by compilers of one name is equal.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Compiles a source: the machine code (or PTX with a final zero), and what the compiler said, the resources of each
    /// kernel among it.
    ///
    /// # Errors
    /// The compiler's log, if it refuses.
    pub fn compile(&self, source: &Source, target: Target) -> Result<(Vec<u8>, String), String> {
        let mut options = vec![
            CString::new(format!("--gpu-architecture={target}")).map_err(|it| it.to_string())?,
            option("-I", &source.folder)?,
        ];
        options.extend(source.options().into_iter().map(CString::from));
        options.extend(self.includes.iter().cloned());
        let program = self.program(source)?;
        let outcome = self.compile_program(program, &options, target);
        let destroy: Symbol<Destroy> = self.function(b"nvrtcDestroyProgram\0")?;
        let mut program = program;
        // SAFETY: the program was created by this library and is not used any more.
        let _ = unsafe { destroy(&mut program) };
        outcome
    }

    fn program(&self, source: &Source) -> Result<Program, String> {
        let text =
            CString::new(source.text.as_str()).map_err(|_| "the source holds a zero byte")?;
        let name =
            CString::new(format!("kernels/{}.cu", source.name)).map_err(|it| it.to_string())?;
        let create: Symbol<Create> = self.function(b"nvrtcCreateProgram\0")?;
        let mut program = ptr::null_mut();
        // SAFETY: both strings end in a zero and outlive the call, and there are no headers.
        let status = unsafe {
            create(&mut program, text.as_ptr(), name.as_ptr(), 0, ptr::null(), ptr::null())
        };
        if status == 0 { Ok(program) } else { Err(format!("NVRTC status {status}")) }
    }

    fn compile_program(
        &self,
        program: Program,
        options: &[CString],
        target: Target,
    ) -> Result<(Vec<u8>, String), String> {
        let pointers: Vec<*const c_char> = options.iter().map(|it| it.as_ptr()).collect();
        let count = c_int::try_from(pointers.len()).map_err(|it| it.to_string())?;
        let compile: Symbol<Compile> = self.function(b"nvrtcCompileProgram\0")?;
        // SAFETY: `count` strings that end in a zero and outlive the call.
        let status = unsafe { compile(program, count, pointers.as_ptr()) };
        let log = self.content(program, b"nvrtcGetProgramLogSize\0", b"nvrtcGetProgramLog\0")?;
        let log = String::from_utf8_lossy(&log).trim_end_matches('\0').to_owned();
        if status != 0 {
            return Err(format!("NVRTC status {status}\n{log}"));
        }
        let image = match target {
            Target::Cubin(_) => self.content(program, b"nvrtcGetCUBINSize\0", b"nvrtcGetCUBIN\0"),
            Target::Ptx(_) => self.content(program, b"nvrtcGetPTXSize\0", b"nvrtcGetPTX\0"),
        }?;
        Ok((image, log))
    }

    /// One of the results of a program, by the names of the functions that give its size and itself.
    fn content(&self, program: Program, size: &[u8], content: &[u8]) -> Result<Vec<u8>, String> {
        let size: Symbol<Size> = self.function(size)?;
        let content: Symbol<Content> = self.function(content)?;
        let mut bytes = 0;
        // SAFETY: a program of this library, and a place for one number.
        let sized = unsafe { size(program, &mut bytes) };
        let mut buffer = vec![0_u8; bytes];
        // SAFETY: the buffer holds as many bytes as the library said.
        let filled = unsafe { content(program, buffer.as_mut_ptr().cast()) };
        if sized == 0 && filled == 0 {
            Ok(buffer)
        } else {
            Err(format!("NVRTC status {sized}, {filled}"))
        }
    }

    fn identity(&self, library: &Path) -> Result<String, String> {
        let version: Symbol<Version> = self.function(b"nvrtcVersion\0")?;
        let (mut major, mut minor) = (0, 0);
        // SAFETY: two places for a number each.
        let status = unsafe { version(&mut major, &mut minor) };
        if status != 0 {
            return Err(format!("{}: NVRTC status {status}", library.display()));
        }
        // The version has no build number; the length tells builds apart.
        let bytes =
            fs::metadata(library).map_err(|it| format!("{}: {it}", library.display()))?.len();
        Ok(format!("NVRTC {major}.{minor} of {bytes} bytes"))
    }

    fn architectures(&self) -> Result<Vec<u32>, String> {
        let count: Symbol<ArchitectureCount> = self.function(b"nvrtcGetNumSupportedArchs\0")?;
        let list: Symbol<Architectures> = self.function(b"nvrtcGetSupportedArchs\0")?;
        let mut len = 0;
        // SAFETY: a place for one number.
        let counted = unsafe { count(&mut len) };
        let mut known = vec![0; usize::try_from(len).unwrap_or_default()];
        // SAFETY: as many places as the library said.
        let listed = unsafe { list(known.as_mut_ptr()) };
        if counted != 0 || listed != 0 {
            return Err(format!("NVRTC status {counted}, {listed}"));
        }
        Ok(known.into_iter().filter_map(|it| u32::try_from(it).ok()).collect())
    }

    fn function<T>(&self, name: &[u8]) -> Result<Symbol<T>, String> {
        // SAFETY: every caller names the type that NVRTC's header gives the function.
        unsafe { self.library.get(name) }.map_err(|error| error.to_string())
    }
}

fn open(path: &Path) -> Result<Library, String> {
    // SAFETY: NVIDIA's libraries do nothing harmful when they are loaded.
    unsafe { Library::open(Some(path), RTLD_NOW | RTLD_GLOBAL) }
        .map_err(|error| format!("{}: {error}", path.display()))
}

fn option(name: &str, path: &Path) -> Result<CString, String> {
    CString::new(format!("{name}{}", path.display())).map_err(|error| error.to_string())
}
