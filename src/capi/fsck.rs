//! Checking layouts.

use std::collections::HashMap;
use std::ffi::{CString, c_char, c_void};
use std::sync::Arc;

use super::progress::{puzzlefs_progress_fn, reporter};
use super::{puzzlefs_error, puzzlefs_status};
use super::{ret, symbol_version, utils};
use crate::error::{Error, ErrorKind};
use crate::fsck::{Finding, FsckOptions, FsckReport, Severity, Tags, fsck, parse_target};
use crate::progress::Monitor;

symbol_version!("LIBPUZZLEFS_0.1":
    puzzlefs_fsck,
    puzzlefs_fsck_report_summary,
    puzzlefs_fsck_report_finding,
    puzzlefs_fsck_report_free,
);

/// How a layout is checked. Zeros, but for `size`, are the defaults.
#[repr(C)]
pub struct puzzlefs_fsck_options {
    /// `sizeof(puzzlefs_fsck_options)`.
    pub size: usize,
    /// 0: there are no flags yet.
    pub flags: u64,
    /// Is told of progress, and may cancel; NULL for nobody.
    pub progress: puzzlefs_progress_fn,
    /// Passed to `progress`.
    pub data: *mut c_void,
    /// Layouts, with NULL behind the last, from which good copies of missing and damaged blobs are
    /// taken, the first that has one. NULL or none: nothing is repaired.
    pub repair_from: *const *const c_char,
}

// SAFETY: `repr(C)`, the size comes first, numbers and pointers may be 0.
unsafe impl utils::Versioned for puzzlefs_fsck_options {
    const FIRST_SIZE: usize = std::mem::offset_of!(Self, repair_from);
}

/// What a check found. It never changes: several threads may read one at once.
pub struct puzzlefs_fsck_report(());

/// What is behind a `puzzlefs_fsck_report`: what was found, with its texts as C has them.
pub struct Report {
    summary: puzzlefs_fsck_summary,
    findings: Vec<Found>,
}

struct Found {
    severity: Severity,
    message: CString,
    tags: Arc<TagList>,
}

/// Tags as C has them: findings that share a list do so here.
struct TagList {
    /// The tags, and NULL behind the last.
    pointers: Vec<*const c_char>,
    /// Own what these point to.
    _tags: Vec<Arc<CString>>,
}

// SAFETY: the pointers are to what it owns, and none of that ever changes.
unsafe impl Send for TagList {}
// SAFETY: as above.
unsafe impl Sync for TagList {}

impl utils::Handle for puzzlefs_fsck_report {
    type Target = Report;
    const TAG: u64 = u64::from_be_bytes(*b"pzfsfsck");
}

/// What a check found, in numbers. The caller sets `size`, and the library fills in the rest.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct puzzlefs_fsck_summary {
    /// `sizeof(puzzlefs_fsck_summary)`.
    pub size: usize,
    /// How many findings there are.
    pub findings: u64,
    /// How many of them are errors, which are the first: 0 if everything can be read and trusted.
    pub errors: u64,
    /// Images checked.
    pub images: u64,
    /// Blobs checked.
    pub blobs: u64,
    /// Bytes of these blobs.
    pub bytes: u64,
    /// Blobs of the layout that no image refers to. One that is damaged is a warning: a build may
    /// find it and rely on it.
    pub unreferenced: u64,
}

// SAFETY: `repr(C)`, the size comes first, numbers may be 0.
unsafe impl utils::Versioned for puzzlefs_fsck_summary {
    const FIRST_SIZE: usize = size_of::<Self>();
}

/// How bad a finding is. A later version may have others than these.
#[repr(u32)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum puzzlefs_severity {
    /// Something is lost or cannot be trusted.
    PUZZLEFS_SEVERITY_ERROR = 1,
    /// Something is not as it should be, but everything can be read.
    PUZZLEFS_SEVERITY_WARNING = 2,
    /// Something was lost or damaged, and has been repaired.
    PUZZLEFS_SEVERITY_REPAIRED = 3,
}

impl From<Severity> for puzzlefs_severity {
    fn from(severity: Severity) -> Self {
        match severity {
            Severity::Error => Self::PUZZLEFS_SEVERITY_ERROR,
            Severity::Warning => Self::PUZZLEFS_SEVERITY_WARNING,
            Severity::Repaired => Self::PUZZLEFS_SEVERITY_REPAIRED,
        }
    }
}

/// Something that is wrong, or was. The caller sets `size`, and the library fills in the rest.
#[repr(C)]
pub struct puzzlefs_finding {
    /// `sizeof(puzzlefs_finding)`.
    pub size: usize,
    /// What is wrong, in one line of UTF-8: a string that belongs to the report and goes with it.
    pub message: *const c_char,
    /// The tags of the images that it hurts, with NULL behind the last; an image without a tag, or
    /// with one of more than 128 bytes, is named by its digest. All of it belongs to the report and
    /// goes with it. Findings that hurt the same images may have the same list, which may be long.
    pub tags: *const *const c_char,
    /// How many tags these are.
    pub tag_count: usize,
    /// How bad it is.
    pub severity: puzzlefs_severity,
    /// 0.
    pub reserved: u32,
}

// SAFETY: `repr(C)`, the size comes first. It is written only, so that a severity of 0 never
// occurs.
unsafe impl utils::Versioned for puzzlefs_finding {
    const FIRST_SIZE: usize = size_of::<Self>();
}

/// Checks a layout, or one image of it: each digest, each structure, and that nothing is missing;
/// and repairs it if the options say from what.
///
/// A blob that is taken from another layout has the digest that it must have, and replaces the
/// broken one at once and for good; who has that open goes on reading it. `index.json` is not
/// repaired: it says what only this layout knows, which tags there are.
///
/// Parameters:
/// - `target`: `LAYOUT`, the path of an OCI image layout, or `LAYOUT:TAG` or `LAYOUT@sha256:HEX`
///   for one image. What is a folder is a layout.
/// - `options`: how it is checked; NULL for the defaults.
/// - `report`: what was found, which the caller frees with `puzzlefs_fsck_report_free`; NULL when
///   it fails.
/// - `error`: see `puzzlefs_error`.
///
/// Returns `PUZZLEFS_OK` if the check could be made, whatever it found: what could not be repaired
/// is an error in the report. Else among others `PUZZLEFS_ERR_NOT_FOUND` without a layout or the
/// tag, `PUZZLEFS_ERR_CORRUPT` for an index that cannot be read, `PUZZLEFS_ERR_CANCELLED`; what is
/// repaired by then stays so. `PUZZLEFS_ERR_UNSUPPORTED` if so many blobs are broken, to which so
/// many images refer in so many ways, that the lists of what each hurts would be 16 million long:
/// an image can be checked by its name then.
///
/// Threads: any, during a build into the same layout too.
///
/// ```c
/// puzzlefs_fsck_report *report;
/// if (puzzlefs_fsck("images", NULL, &report, &error) != PUZZLEFS_OK)
///     return fail(error);
/// puzzlefs_fsck_summary summary = { .size = sizeof(summary) };
/// puzzlefs_fsck_report_summary(report, &summary, NULL);
/// puts(summary.errors == 0 ? "clean" : "damaged");
/// puzzlefs_fsck_report_free(report);
/// ```
#[unsafe(no_mangle)]
pub unsafe extern "C" fn puzzlefs_fsck(
    target: *const c_char,
    options: *const puzzlefs_fsck_options,
    report: *mut *mut puzzlefs_fsck_report,
    error: *mut *mut puzzlefs_error,
) -> puzzlefs_status {
    // SAFETY: the caller passes pointers as the header asks for.
    unsafe {
        ret::call(error, || {
            let report = utils::out(report, "report")?.write(std::ptr::null_mut());
            let (layout, name) = parse_target(utils::path(target, "target")?)?;
            let options = utils::options(options, "options")?;
            utils::flags(options.flags, 0, "options.flags")?;
            let progress = reporter(options.progress, options.data);
            let repair_from = utils::paths(options.repair_from);
            let found = fsck(
                &layout,
                name.as_ref(),
                &FsckOptions { repair_from },
                &Monitor::new(&progress),
            )?;
            *report = utils::give(Report::new(found));
            Ok(())
        })
    }
}

/// Tells what a check found, in numbers.
///
/// Parameters:
/// - `report`: the report, borrowed.
/// - `summary`: the numbers, with its `size` set.
/// - `error`: see `puzzlefs_error`.
///
/// Returns `PUZZLEFS_OK`, or `PUZZLEFS_ERR_INVALID_INPUT`.
///
/// Threads: any, also with the same report.
///
/// ```c
/// puzzlefs_fsck_summary summary = { .size = sizeof(summary) };
/// if (puzzlefs_fsck_report_summary(report, &summary, &error) == PUZZLEFS_OK)
///     printf("%llu errors\n", (unsigned long long)summary.errors);
/// ```
#[unsafe(no_mangle)]
pub unsafe extern "C" fn puzzlefs_fsck_report_summary(
    report: *const puzzlefs_fsck_report,
    summary: *mut puzzlefs_fsck_summary,
    error: *mut *mut puzzlefs_error,
) -> puzzlefs_status {
    // SAFETY: the caller passes pointers as the header asks for.
    unsafe {
        ret::call(error, || {
            let report = utils::handle(report, "report")?;
            utils::slot(summary, "summary")?.fill(report.summary);
            Ok(())
        })
    }
}

/// Tells a finding of a check. The errors are the first.
///
/// Parameters:
/// - `report`: the report, borrowed.
/// - `index`: which finding, from 0 to one less than the summary's `findings`.
/// - `finding`: the finding, with its `size` set.
/// - `error`: see `puzzlefs_error`.
///
/// Returns `PUZZLEFS_OK`, or `PUZZLEFS_ERR_NOT_FOUND` without such a finding, or
/// `PUZZLEFS_ERR_INVALID_INPUT`.
///
/// Threads: any, also with the same report.
///
/// ```c
/// puzzlefs_finding finding = { .size = sizeof(finding) };
/// for (uint64_t index = 0; index < summary.findings; index++)
///     if (puzzlefs_fsck_report_finding(report, index, &finding, NULL) == PUZZLEFS_OK)
///         puts(finding.message);
/// ```
#[unsafe(no_mangle)]
pub unsafe extern "C" fn puzzlefs_fsck_report_finding(
    report: *const puzzlefs_fsck_report,
    index: u64,
    finding: *mut puzzlefs_finding,
    error: *mut *mut puzzlefs_error,
) -> puzzlefs_status {
    // SAFETY: the caller passes pointers as the header asks for.
    unsafe {
        ret::call(error, || {
            let report = utils::handle(report, "report")?;
            let slot = utils::slot(finding, "finding")?;
            let found = usize::try_from(index).ok().and_then(|index| report.finding(index));
            slot.fill(found.ok_or_else(|| {
                Error::new(
                    ErrorKind::NotFound,
                    format!("there is no finding {index} in the report"),
                )
            })?);
            Ok(())
        })
    }
}

/// Frees a report, and what belongs to it.
///
/// Parameters:
/// - `report`: the report, to be freed once; NULL is fine.
///
/// Threads: any, once no other uses the report.
///
/// ```c
/// puzzlefs_fsck_report_free(report);
/// report = NULL;
/// ```
#[unsafe(no_mangle)]
pub unsafe extern "C" fn puzzlefs_fsck_report_free(report: *mut puzzlefs_fsck_report) {
    // SAFETY: the caller gives the report back, or NULL.
    ret::quietly(|| unsafe { utils::free(report) });
}

impl Report {
    fn new(report: FsckReport) -> Self {
        let summary = (&report).into();
        let mut tags = TagLists::default();
        let found = |Finding { severity, message, tags: list }| Found {
            severity,
            message: utils::c_string(message),
            tags: tags.get(&list),
        };
        Report { summary, findings: report.findings.into_iter().map(found).collect() }
    }

    fn finding(&self, index: usize) -> Option<puzzlefs_finding> {
        let Found { severity, message, tags } = self.findings.get(index)?;
        Some(puzzlefs_finding {
            size: size_of::<puzzlefs_finding>(),
            message: message.as_ptr(),
            tags: tags.pointers.as_ptr(),
            tag_count: tags.pointers.len() - 1,
            severity: (*severity).into(),
            reserved: 0,
        })
    }
}

/// What has been made for C: each tag and each list of them once.
#[derive(Default)]
struct TagLists {
    tags: HashMap<Arc<str>, Arc<CString>>,
    lists: HashMap<*const Arc<str>, (Tags, Arc<TagList>)>,
}

impl TagLists {
    fn get(&mut self, list: &Tags) -> Arc<TagList> {
        // The list is kept, so that no other comes to lie where it does.
        let known = self.lists.entry(list.as_ptr()).or_insert_with(|| {
            let tag = |tag: &Arc<str>| {
                let new = || Arc::new(utils::c_string(tag.as_bytes()));
                self.tags.entry(tag.clone()).or_insert_with(new).clone()
            };
            let tags: Vec<_> = list.iter().map(tag).collect();
            let pointers = tags.iter().map(|tag| tag.as_ptr()).chain([std::ptr::null()]);
            (list.clone(), Arc::new(TagList { pointers: pointers.collect(), _tags: tags }))
        });
        known.1.clone()
    }
}

impl From<&FsckReport> for puzzlefs_fsck_summary {
    fn from(report: &FsckReport) -> Self {
        let errors = report.findings.iter().filter(|finding| finding.severity == Severity::Error);
        puzzlefs_fsck_summary {
            size: size_of::<Self>(),
            findings: report.findings.len() as u64,
            errors: errors.count() as u64,
            images: report.images,
            blobs: report.blobs,
            bytes: report.bytes,
            unreferenced: report.unreferenced,
        }
    }
}
