//! Tests that every device has to pass: each operation at awkward sizes against its formula in f64, and
//! arguments that do not fit refused alike.
//!
//! A new device joins with a line in [`subjects`](subject::subjects), with its tolerances. A device that can't do all
//! of it lists what it refuses by name, and still has to compute a case of each test that asks for that.

mod attention;
mod elements;
mod formulas;
mod products;
mod refusals;
pub mod subject;
pub mod values;
