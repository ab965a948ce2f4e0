//! One process that builds images, and frees them, again and again.
//!
//! It does so for some seconds, or as many as `PUZZLEFS_SOAK` says: see `make soak`.

mod common;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use puzzlefs::build::{BaseOptions, BuildOptions, build, canonicalize, delta};
use puzzlefs::extract::{ExtractOptions, extract};
use puzzlefs::image::{Image, OpenOptions};
use puzzlefs::layout::{GcOptions, Reference, gc};
use puzzlefs::progress::Monitor;
use puzzlefs::source::overlay::MarkNamespace;

use common::process::soak;
use common::snapshot::{Snapshot, assert_same};
use common::temp_dir;
use common::tree::{KIB, mkdir, random};

#[global_allocator]
static ALLOCATOR: puzzlefs::Allocator = puzzlefs::Allocator;

/// As many rounds as it takes to see whether memory grows.
const ROUNDS: usize = 40;
/// What the process may have: far less than what it would have if each build left something.
const MOST: u64 = 160 << 20;

#[test]
fn a_process_that_builds_for_long_loses_nothing() {
    let dir = temp_dir();
    let images = Soak::new(dir.path());
    soak(5, ROUNDS, MOST, |round| images.round(round));
}

struct Soak {
    tree: PathBuf,
    upper: PathBuf,
    layout: PathBuf,
    extracted: PathBuf,
}

impl Soak {
    fn new(dir: &Path) -> Soak {
        let tree = mkdir(&dir.join("tree"));
        for number in 0..100 {
            fs::write(tree.join(format!("file{number}")), random(number, 2 * KIB)).unwrap();
        }
        fs::write(tree.join("large"), random(100, 2 << 20)).unwrap();
        let upper = mkdir(&dir.join("upper"));
        let extracted = dir.join("extracted");
        Soak { tree, upper, layout: dir.join("images"), extracted }
    }

    /// A build, a delta on it, and what else there is to do with images.
    fn round(&self, round: u64) {
        fs::write(self.tree.join("changes"), random(round, 200 * KIB)).unwrap();
        fs::write(self.upper.join("changes"), random(round + 1, 200 * KIB)).unwrap();
        let (built, stepped) = (self.image("built"), self.image("stepped"));
        let silent = &Monitor::silent();
        build(&self.tree, &built, &BuildOptions::default(), silent).unwrap();
        let base =
            BaseOptions { image: built.clone(), platform: None, verify: round.is_multiple_of(2) };
        let options = BuildOptions { base: Some(base), ..BuildOptions::default() };
        delta(&self.upper, MarkNamespace::Auto, &stepped, &options, silent).unwrap();
        match round % 8 {
            0 => self.give_up(&options),
            1 => {
                let (open, options) = (OpenOptions::default(), BuildOptions::default());
                canonicalize(&stepped, &open, &built, &options, silent).unwrap();
            }
            2 => self.extract(&built),
            _ => {}
        }
        let options = GcOptions { grace: Duration::ZERO, dry_run: false };
        gc(&self.layout, &options, silent).unwrap();
    }

    fn image(&self, tag: &str) -> Reference {
        let mut name = self.layout.clone().into_os_string();
        name.push(format!(":{tag}"));
        Reference::parse(Path::new(&name)).unwrap()
    }

    /// What fails or is cancelled leaves as little as what succeeds.
    fn give_up(&self, options: &BuildOptions) {
        let cancel = |_| std::ops::ControlFlow::Break(());
        let cancelled = Monitor::new(&cancel);
        assert!(build(&self.tree, &self.image("none"), options, &cancelled).is_err());
        let missing = self.tree.join("missing");
        assert!(build(&missing, &self.image("none"), options, &Monitor::silent()).is_err());
    }

    fn extract(&self, built: &Reference) {
        let image = Image::open(built, &OpenOptions::default()).unwrap();
        let options = ExtractOptions::default();
        extract(&image, &self.extracted, &options, &Monitor::silent()).unwrap();
        let (tree, extracted) = (Snapshot::of(&self.tree), Snapshot::of(&self.extracted));
        assert_same("what is extracted", &tree, &extracted);
        fs::remove_dir_all(&self.extracted).unwrap();
    }
}
