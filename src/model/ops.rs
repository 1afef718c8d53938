//! The device as the model sees it: every operation is entered in the ledger on its way, and
//! every stage can be looked at.

use std::time::Instant;

use super::cost::Cost;
use super::ledger::{Entry, Ledger, Module, Op, Phase, Time};
use super::tap::{Source, Stage, Tap};
use crate::device::{
    Attention, Blend, Device, DeviceError, Epilogue, KvCache, OpResult, PatchEmbed, Ran, Rope, RowVector,
    Table, Vector, View, Weight, core_time, step,
};

type Done = Result<(), DeviceError>;

/// A device, the ledger, perhaps a tap, and the phase and module on whose account operations go.
pub struct Ops<'a> {
    device: &'a mut dyn Device,
    ledger: &'a mut Ledger,
    tap: Option<&'a mut dyn Tap>,
    phase: Phase,
    module: Module,
}

impl<'a> Ops<'a> {
    /// Operations of the main module, inputs first.
    pub fn new(device: &'a mut dyn Device, ledger: &'a mut Ledger, tap: Option<&'a mut dyn Tap>) -> Self {
        Self { device, ledger, tap, phase: Phase::Transfer, module: Module::Main }
    }

    /// The same on another module's account.
    pub fn within(&mut self, module: Module) -> Ops<'_> {
        let tap: Option<&mut dyn Tap> = match &mut self.tap {
            Some(tap) => Some(*tap),
            None => None,
        };
        Ops { device: self.device, ledger: self.ledger, tap, phase: self.phase, module }
    }

    /// Begins a phase: operations from now on are counted in it.
    pub fn begin(&mut self, phase: Phase) {
        self.phase = phase;
    }

    /// The device itself, for what is not an operation.
    pub fn device(&mut self) -> &mut dyn Device {
        self.device
    }

    /// True if there is a tap.
    pub fn is_tapped(&self) -> bool {
        self.tap.is_some()
    }

    /// Shows a stage to the tap, if there is one.
    pub fn stage(&mut self, stage: Stage, source: Source<'_>) -> Done {
        match &mut self.tap {
            Some(tap) => tap.at(stage, source, self.device),
            None => Ok(()),
        }
    }

    /// Calls an operation and enters it, with its time if that is asked for.
    fn run(&mut self, op: Op, cost: Cost, call: impl FnOnce(&mut dyn Device) -> OpResult) -> Done {
        let start = self.ledger.is_timed().then(|| (Instant::now(), core_time()));
        let ran = call(self.device)?;
        step();
        let mut time = Time::default();
        if let Some((start, core)) = start {
            self.device.synchronize()?;
            time = Time { elapsed: start.elapsed(), core: core_time() - core };
        }
        self.ledger.enter(self.phase, self.module, op, Entry::new(ran, cost, time));
        Ok(())
    }

    fn product(&self, rows: usize, inputs: usize, weight: Weight, outputs: usize) -> Cost {
        Cost::product(rows, inputs, outputs, self.device.weight_bytes(weight))
    }

    /// [`Device::write`]
    pub fn write(&mut self, values: &[f32], out: View) -> Done {
        self.run(Op::Write, Cost::default(), |device| device.write(values, out))
    }

    /// [`Device::write_tokens`]
    pub fn write_tokens(&mut self, ids: &[u32], out: View) -> Done {
        self.run(Op::Write, Cost::default(), |device| device.write_tokens(ids, out).map(|()| Ran::Device))
    }

    /// [`Device::read`]
    pub fn read(&mut self, view: View, out: &mut [f32]) -> Done {
        self.run(Op::Read, Cost::default(), |device| device.read(view, out).map(|()| Ran::Device))
    }

    /// [`Device::patch_embed`]
    pub fn patch_embed(&mut self, images: View, args: PatchEmbed, out: View) -> Done {
        let inputs = 3 * args.patch_size * args.patch_size;
        let cost = self.product(out.rows, inputs, args.weight, out.cols);
        self.run(Op::PatchEmbed, cost, |device| device.patch_embed(images, args, out))
    }

    /// [`Device::embed`]
    pub fn embed(&mut self, table: Table, ids: View, scale: f32, out: View) -> Done {
        self.run(Op::Embed, Cost::default(), |device| device.embed(table, ids, scale, out))
    }

    /// [`Device::layer_norm`]
    pub fn layer_norm(&mut self, x: View, weight: Vector, bias: Vector, epsilon: f32, out: View) -> Done {
        self.run(Op::LayerNorm, Cost::default(), |device| device.layer_norm(x, weight, bias, epsilon, out))
    }

    /// [`Device::rms_norm`]
    pub fn rms_norm(
        &mut self,
        x: View,
        weight: RowVector,
        shift: Option<RowVector>,
        epsilon: f32,
        out: View,
    ) -> Done {
        self.run(Op::RmsNorm, Cost::default(), |device| device.rms_norm(x, weight, shift, epsilon, out))
    }

    /// [`Device::linear`]
    pub fn linear(
        &mut self,
        x: View,
        weight: Weight,
        bias: Option<Vector>,
        epilogue: Epilogue,
        out: View,
    ) -> Done {
        let cost = self.product(x.rows, x.cols, weight, out.cols);
        self.run(Op::Linear, cost, |device| device.linear(x, weight, bias, epilogue, out))
    }

    /// [`Device::geglu`]
    pub fn geglu(&mut self, x: View, weight: Weight, out: View) -> Done {
        let cost = self.product(x.rows, x.cols, weight, 2 * out.cols);
        self.run(Op::Geglu, cost, |device| device.geglu(x, weight, out))
    }

    /// [`Device::rope`]
    pub fn rope(&mut self, x: View, rope: Option<Rope>, out: View) -> Done {
        self.run(Op::Rope, Cost::default(), |device| device.rope(x, rope, out))
    }

    /// [`Device::cache_write`]
    pub fn cache_write(
        &mut self,
        cache: KvCache,
        layer: usize,
        row: usize,
        k: View,
        v: View,
        rope: Option<Rope>,
    ) -> Done {
        self.run(Op::CacheWrite, Cost::default(), |device| device.cache_write(cache, layer, row, k, v, rope))
    }

    /// [`Device::attention`]
    pub fn attention(&mut self, q: View, cache: KvCache, layer: usize, args: Attention, out: View) -> Done {
        self.run(Op::Attention, Cost::attention(q, args.keys), |device| {
            device.attention(q, cache, layer, args, out)
        })
    }

    /// [`Device::copy`]
    pub fn copy(&mut self, x: View, out: View) -> Done {
        self.run(Op::Copy, Cost::default(), |device| device.copy(x, out))
    }

    /// [`Device::blend`]
    pub fn blend(&mut self, y: View, x: View, target: View, row_weights: View, args: Blend) -> Done {
        self.run(Op::Blend, Cost::default(), |device| device.blend(y, x, target, row_weights, args))
    }

    /// [`Device::euler_step`]
    pub fn euler_step(&mut self, x: View, v: View, dt: f32) -> Done {
        self.run(Op::EulerStep, Cost::default(), |device| device.euler_step(x, v, dt))
    }
}
