//! The command-line tool under strace, which records its system calls and has them fail.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;

/// Calls that are let be: waiting and signals, what a process asks of itself, and memory but for
/// mmap, by which threads get their stacks. A close that fails has nothing to say here: what was
/// written was synced before.
const NOT_OURS: &str = "!futex,sched_yield,clock_nanosleep,restart_syscall,poll,ppoll,close,munmap,\
    mprotect,madvise,mremap,brk,rt_sigprocmask,rt_sigreturn,sigaltstack,gettid,getpid,getuid,geteuid,\
    getgid,getegid,umask,prctl,set_robust_list,rseq,set_tid_address,arch_prctl,sched_getaffinity,\
    prlimit64,getrandom,exit,exit_group,kill,tgkill";

/// What main does first: before, the program is not ours yet.
const MAIN: &str = "rt_sigaction(SIGTERM";

/// What happens at a system call, instead of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    Error(&'static str),
    Kill,
}

/// A system call: its name, and which of those by that name it is in its thread.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    pub name: String,
    pub number: usize,
}

/// A command that runs one under strace, which writes to `log`.
pub fn strace(log: &Path, calls: &str) -> Command {
    let mut command = Command::new("strace");
    command.args(["--follow-forks", "--seccomp-bpf", "--decode-fds=path", "--output"]).arg(log);
    command.args(["-e", &format!("trace={calls}")]);
    command
}

/// The same, for finding out which calls there are.
pub fn recorded(log: &Path) -> Command {
    strace(log, NOT_OURS)
}

/// The same, where the call fails in each thread that comes so far.
pub fn injected(log: &Path, Call { name, number }: &Call, fault: Fault) -> Command {
    let what = match fault {
        Fault::Error(error) => format!("error={error}"),
        Fault::Kill => "signal=SIGKILL".to_owned(),
    };
    let mut command = strace(log, name);
    command.args(["-e", &format!("inject={name}:{what}:when={number}")]);
    command
}

/// The calls of a recorded run since its main began.
///
/// What a thread does first has the numbers of what its program does before main, which cannot be
/// had apart; it does the like again later, if it has enough to do.
pub fn calls(log: &Path) -> Vec<Call> {
    let text = fs::read(log).unwrap();
    let text = String::from_utf8_lossy(&text);
    // By thread and name.
    let mut counts: BTreeMap<(&str, &str), usize> = BTreeMap::new();
    let mut before: Option<BTreeMap<&str, usize>> = None;
    let mut last: BTreeMap<&str, usize> = BTreeMap::new();
    for line in text.lines() {
        let (thread, rest) = line.split_once(' ').unwrap();
        let rest = rest.trim_start();
        if before.is_none() && rest.starts_with(MAIN) {
            before = Some(counts.iter().map(|((_, name), count)| (*name, *count)).collect());
        }
        let Some((name, _)) = rest.split_once('(') else { continue };
        if !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_') {
            continue;
        }
        let count = counts.entry((thread, name)).or_default();
        *count += 1;
        let most = last.entry(name).or_default();
        *most = (*most).max(*count);
    }
    let before = before.expect("the program came to its main");
    let numbers = last.into_iter().filter(|(name, _)| *name != "rt_sigaction");
    let calls = numbers.flat_map(|(name, last)| {
        let first = before.get(name).copied().unwrap_or(0) + 1;
        (first..=last).map(move |number| Call { name: name.to_owned(), number })
    });
    calls.collect()
}

/// The calls of a log, in the order in which they were over.
pub fn lines(log: &Path) -> Vec<String> {
    let text = fs::read(log).unwrap();
    let text = String::from_utf8_lossy(&text);
    let mut begun: BTreeMap<&str, &str> = BTreeMap::new();
    let mut whole = Vec::new();
    for line in text.lines() {
        let (thread, rest) = line.split_once(' ').unwrap();
        let rest = rest.trim_start();
        if let Some(begin) = rest.strip_suffix(" <unfinished ...>") {
            begun.insert(thread, begin);
        } else if let Some((_, end)) = rest.split_once(" resumed>") {
            whole.push(format!("{}{end}", begun.remove(thread).unwrap()));
        } else {
            whole.push(rest.to_owned());
        }
    }
    whole
}

/// Those of them that failed by injection.
pub fn injections(log: &Path) -> Vec<String> {
    lines(log).into_iter().filter(|line| line.ends_with("(INJECTED)")).collect()
}
