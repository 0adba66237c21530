//! What the assembler says about each kernel: registers, spilled bytes, stack, shared memory.

/// One kernel on one target.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Resources {
    /// Its name.
    pub kernel: String,
    /// Registers of a thread.
    pub registers: u32,
    /// Bytes that registers are spilled to, stores and loads.
    pub spill_bytes: u32,
    /// Local memory of a thread in bytes.
    pub stack_bytes: u32,
    /// Static shared memory of a block in bytes.
    pub shared_bytes: u32,
}

/// Reads the assembler's lines:
///
/// ```text
/// ptxas info    : Compiling entry function 'NAME' for 'sm_90'
/// ptxas info    : Function properties for NAME
/// ptxas         .     0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads
/// ptxas info    : Used 72 registers, used 1 barriers, 8192 bytes smem
/// ```
///
/// A function that was not inlined has no first line; what it spills is counted to the kernel before it.
///
/// # Errors
/// If a kernel's lines are not as above.
pub fn parse(log: &str) -> Result<Vec<Resources>, String> {
    let mut kernels: Vec<Resources> = Vec::new();
    for line in log.lines() {
        if let Some((_, rest)) = line.split_once("Compiling entry function '") {
            let kernel = rest.split('\'').next().unwrap_or_default().to_owned();
            kernels.push(Resources { kernel, ..Resources::default() });
        } else if line.contains("bytes stack frame") {
            let kernel = kernels.last_mut().ok_or_else(|| format!("no kernel before `{line}`"))?;
            kernel.stack_bytes += before(line, " bytes stack frame")?;
            kernel.spill_bytes += before(line, " bytes spill stores")?;
            kernel.spill_bytes += before(line, " bytes spill loads")?;
        } else if line.contains(": Used ") {
            let kernel = kernels.last_mut().ok_or_else(|| format!("no kernel before `{line}`"))?;
            kernel.registers = before(line, " registers")?;
            if line.contains(" bytes smem") {
                kernel.shared_bytes = before(line, " bytes smem")?;
            }
        }
    }
    match kernels.iter().find(|it| it.registers == 0) {
        Some(unknown) => Err(format!("the assembler says no registers of {}", unknown.kernel)),
        None => Ok(kernels),
    }
}

/// Anything the compiler says beside resources is a warning, and a warning fails the build.
///
/// # Errors
/// If there is one: the lines.
pub fn refuse_warnings(log: &str) -> Result<(), String> {
    let expected = |line: &&str| {
        line.is_empty() || line.starts_with("ptxas info ") || line.starts_with("ptxas  ")
    };
    let said: Vec<&str> = log.lines().filter(|it| !expected(it)).collect();
    if said.is_empty() { Ok(()) } else { Err(format!("warnings are errors\n{}", said.join("\n"))) }
}

/// The number before the words.
fn before(line: &str, words: &str) -> Result<u32, String> {
    let number = line.split(words).next().and_then(|it| it.rsplit([' ', ',']).next());
    number
        .and_then(|it| it.parse().ok())
        .ok_or_else(|| format!("no number before `{words}`: `{line}`"))
}
