//! Norms.

use cxx::UniquePtr;

use super::bridge::{self, Dtype, Tensor};
use super::card::{Constant, Handle, Ttnn};
use super::failure::failed;
use super::product::whole;
use super::value::Value;
use crate::device::{DeviceError, PrecisionClass, RowVector, Vector, View};

impl Ttnn {
    pub(super) fn norm(
        &mut self,
        op: &'static str,
        x: View,
        out: View,
        call: impl FnOnce(&mut Self, &Value) -> Result<UniquePtr<Tensor>, DeviceError>,
    ) -> Result<(), DeviceError> {
        let mut value = self.get(op, x)?;
        let wanted = self.dtype_of(out.buffer.0);
        if wanted == Dtype::F32 {
            value = self.cast(value, Dtype::F32)?;
        }
        let tensor = call(self, &value)?;
        // An operand in f32 is as good as one in bf16.
        let normed = value.with(tensor, value.dtype);
        self.put(op, out, normed)
    }

    pub(super) fn gamma(&mut self, weight: Vector, plus: f32, cols: usize) -> Result<Handle, DeviceError> {
        let values = self.vectors[weight.0 as usize].0.clone();
        let key = if plus == 0.0 { Constant::Gamma(weight.0) } else { Constant::GammaPlusOne(weight.0) };
        let dims = [1, 1, 1, cols];
        self.constant(key, dims, Dtype::F32, || values.iter().map(|v| v + plus).collect())
    }

    pub(super) fn layer_norm(
        &mut self,
        x: View,
        weight: Vector,
        bias: Vector,
        epsilon: f32,
        out: View,
    ) -> Result<(), DeviceError> {
        const OP: &str = "layer_norm";
        self.norm(OP, x, out, |device, value| {
            let gamma = device.gamma(weight, 0.0, x.cols)?;
            let beta = device.gamma(bias, 0.0, x.cols)?;
            let compute = device.options.compute(PrecisionClass::Exact);
            bridge::layer_norm(&value.tensor, &gamma, &beta, epsilon, &compute).map_err(failed(OP))
        })
    }

    pub(super) fn rms_norm(
        &mut self,
        x: View,
        weight: RowVector,
        shift: Option<RowVector>,
        epsilon: f32,
        out: View,
    ) -> Result<(), DeviceError> {
        const OP: &str = "rms_norm";
        let weight = whole(OP, weight)?;
        let shift = shift.map(|shift| whole(OP, shift)).transpose()?;
        self.norm(OP, x, out, |device, value| {
            let gamma = device.gamma(weight, 1.0, x.cols)?;
            let beta = shift.map(|shift| device.gamma(shift, 0.0, x.cols)).transpose()?;
            let beta = beta.as_ref().map_or(std::ptr::null(), |beta| std::ptr::from_ref::<Tensor>(beta));
            let compute = device.options.compute(PrecisionClass::Exact);
            // SAFETY: the shift is alive or null.
            unsafe { bridge::rms_norm(&value.tensor, &gamma, beta, epsilon, &compute) }.map_err(failed(OP))
        })
    }
}
