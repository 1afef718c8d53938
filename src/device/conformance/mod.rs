//! What every device has to do: each operation at awkward sizes against its formula in f64, and
//! arguments that do not fit refused alike.
//!
//! A new device joins with a line in [`subjects`](subject::subjects).

mod attention;
mod elements;
mod formulas;
mod products;
mod refusals;
pub mod subject;
pub mod values;
