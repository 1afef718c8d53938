//! Loading a model onto a device: everything it needs is created here, once.

use std::ops::Range;

use super::{Buffer, Device, DeviceError, KvCache, Role, Shapes, Table, Vector, Weight};
pub use crate::checkpoint::PrecisionClass;
use crate::checkpoint::Tensor;

/// Called as weights are repacked or converted: (done, total).
pub type Progress<'a> = &'a dyn Fn(usize, usize);

/// Side of a matrix that runs over the heads of an attention layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeadSide {
    /// Its rows: the projection to queries, keys and values.
    Output,
    /// Its columns: the projection of what attention gives.
    Input,
}

/// A device being loaded: hands out small copyable handles, and becomes the [`Device`] they are of.
pub trait Builder {
    /// A hint: what is created next is of this class.
    fn precision(&mut self, _class: PrecisionClass) {}

    /// A matrix `[sum of rows, in]` from the rows of `parts`, which have the same number of columns
    /// (dimensions after the first are flattened). With `cols`, only those columns.
    fn weight(&mut self, parts: &[&Tensor], cols: Option<Range<usize>>) -> Result<Weight, DeviceError>;

    /// The pair of matrices of a gated MLP for [`Device::geglu`], both `[hidden, in]`.
    fn gated_weight(&mut self, gate: &Tensor, up: &Tensor) -> Result<Weight, DeviceError>;

    /// As [`weight`](Self::weight), for a projection from or to heads of `head_dim`. Devices that
    /// work on padded heads pad it here.
    fn head_weight(
        &mut self,
        parts: &[&Tensor],
        _side: HeadSide,
        _head_dim: usize,
    ) -> Result<Weight, DeviceError> {
        self.weight(parts, None)
    }

    /// A hint: `weight` will be multiplied with operands of at most `rows` rows, in every chunk. A
    /// device may keep it in a form made for that.
    fn row_hint(&mut self, _weight: Weight, _rows: usize) -> Result<(), DeviceError> {
        Ok(())
    }

    /// A vector of f32, copied.
    fn vector(&mut self, values: &[f32]) -> Result<Vector, DeviceError>;

    /// The bias of a projection to heads of `head_dim`.
    fn head_vector(&mut self, values: &[f32], _head_dim: usize) -> Result<Vector, DeviceError> {
        self.vector(values)
    }

    /// An embedding table `[vocabulary, width]`.
    fn table(&mut self, tensor: &Tensor) -> Result<Table, DeviceError>;

    /// An activation buffer, zeroed.
    fn buffer(&mut self, role: Role, rows: usize, cols: usize) -> Result<Buffer, DeviceError>;

    /// A hint: images of this buffer will be cut into patches of this side. A device may keep them
    /// unfolded.
    fn patches(&mut self, _images: Buffer, _patch_size: usize) {}

    /// Keys and values for `layers` layers, `heads` heads of `head_dim`, zeroed. The rows of a layer
    /// are written in consecutive runs, each by one [`Device::cache_write`]; `runs` gives their maximum lengths.
    fn kv_cache(
        &mut self,
        layers: usize,
        runs: &[usize],
        heads: usize,
        head_dim: usize,
    ) -> Result<KvCache, DeviceError>;

    /// The lengths of the device's sequences, if they are few; `None`: every length is as good.
    fn shapes(&self) -> Option<&Shapes> {
        None
    }

    /// Whether operations take [`RowVector::Split`](super::RowVector::Split).
    ///
    /// # Errors
    /// [`DeviceError::Unsupported`] if all rows have to have one vector.
    fn splits_rows(&self) -> Result<(), DeviceError> {
        Ok(())
    }

    /// The device, with everything that was created: allocates scratch and starts threads. No
    /// operation allocates after.
    fn seal(self: Box<Self>, progress: Progress<'_>) -> Result<Box<dyn Device>, DeviceError>;
}
