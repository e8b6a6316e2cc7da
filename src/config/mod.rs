//! Configuration: one file, every mistake named by file, line, field and remedy.
