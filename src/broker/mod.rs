//! The broker's verbs, one a file: check, decide, commit, mint.

pub mod seams;
