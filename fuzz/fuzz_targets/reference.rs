//! `LAYOUT:TAG` and its likes, on the command line.
#![no_main]

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use puzzlefs::fsck::parse_target;
use puzzlefs::layout::{Name, Platform, Reference, check_tag, parse_time, time_of};

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let path = Path::new(OsStr::from_bytes(data));
    if let Ok(reference) = Reference::parse(path) {
        let mut written = reference.layout.as_os_str().as_bytes().to_vec();
        written.extend(reference.name.to_string().bytes());
        assert_eq!(written, data, "{reference:?}");
        if let Name::Tag(tag) = &reference.name {
            check_tag(tag).expect("its tag is one");
        }
    }
    if let Ok((layout, name)) = parse_target(path) {
        let layout = layout.as_os_str().as_bytes();
        let name = name.map(|name| name.to_string()).unwrap_or_default();
        assert_eq!([layout, name.as_bytes()].concat(), data);
    }
    let Ok(text) = str::from_utf8(data) else { return };
    if let Ok(platform) = Platform::parse(text) {
        assert_eq!(platform.to_string(), text);
    }
    if let Ok(seconds) = parse_time(text) {
        // The years that can be written are fewer than those that can be told.
        let written = time_of(seconds);
        assert_eq!(parse_time(&written).map(time_of).ok(), Some(written));
    }
});
