//! Packages: the installed files, the manual pages, and the documents.

mod documents;
mod install;
mod man;

#[path = "../support/daemons.rs"]
mod daemons;
#[path = "../support/native.rs"]
mod native;
