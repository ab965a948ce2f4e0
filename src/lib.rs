//! libpuzzlefs
