//! The coverage table shows an operation that a device runs on the host.

use std::ops::Range;
use std::path::Path;

use crate::wrapped::Wrapped;
use pi0rt::checkpoint::Checkpoint;
use pi0rt::device::reference::ReferenceBuilder;
use pi0rt::device::{
    Attention, Begin, Blend, Builder, ChunkKey, Device, DeviceError, Epilogue, KvCache, OpResult, PatchEmbed,
    Ran, Rope, RowVector, Table, Vector, View, Weight,
};
use pi0rt::model::ledger::{Module, Op};
use pi0rt::model::{Coverage, Inputs, Pi0};

/// A device without its own Euler step: the host reads, computes and writes.
struct Fallback(Box<dyn Device>);

impl Device for Fallback {
    fn describe(&self) -> String {
        self.0.describe()
    }

    fn weight_bytes(&self, weight: Weight) -> usize {
        self.0.weight_bytes(weight)
    }

    fn bytes(&self) -> usize {
        self.0.bytes()
    }

    fn write(&mut self, values: &[f32], out: View) -> OpResult {
        self.0.write(values, out)
    }

    fn write_tokens(&mut self, ids: &[u32], out: View) -> Result<(), DeviceError> {
        self.0.write_tokens(ids, out)
    }

    fn read(&mut self, view: View, out: &mut [f32]) -> Result<(), DeviceError> {
        self.0.read(view, out)
    }

    fn read_kv(
        &mut self,
        cache: KvCache,
        layer: usize,
        rows: Range<usize>,
        k: &mut [f32],
        v: &mut [f32],
    ) -> Result<(), DeviceError> {
        self.0.read_kv(cache, layer, rows, k, v)
    }

    fn begin_chunk(
        &mut self,
        key: ChunkKey,
        padding: Range<usize>,
        tapped: bool,
    ) -> Result<Begin, DeviceError> {
        self.0.begin_chunk(key, padding, tapped)
    }

    fn patch_embed(&mut self, images: View, args: PatchEmbed, out: View) -> OpResult {
        self.0.patch_embed(images, args, out)
    }

    fn embed(&mut self, table: Table, ids: View, scale: f32, out: View) -> OpResult {
        self.0.embed(table, ids, scale, out)
    }

    fn layer_norm(&mut self, x: View, weight: Vector, bias: Vector, epsilon: f32, out: View) -> OpResult {
        self.0.layer_norm(x, weight, bias, epsilon, out)
    }

    fn rms_norm(
        &mut self,
        x: View,
        weight: RowVector,
        shift: Option<RowVector>,
        epsilon: f32,
        out: View,
    ) -> OpResult {
        self.0.rms_norm(x, weight, shift, epsilon, out)
    }

    fn linear(
        &mut self,
        x: View,
        weight: Weight,
        bias: Option<Vector>,
        epilogue: Epilogue,
        out: View,
    ) -> OpResult {
        self.0.linear(x, weight, bias, epilogue, out)
    }

    fn geglu(&mut self, x: View, weight: Weight, out: View) -> OpResult {
        self.0.geglu(x, weight, out)
    }

    fn rope(&mut self, x: View, rope: Option<Rope>, out: View) -> OpResult {
        self.0.rope(x, rope, out)
    }

    fn cache_write(
        &mut self,
        cache: KvCache,
        layer: usize,
        row: usize,
        k: View,
        v: View,
        rope: Option<Rope>,
    ) -> OpResult {
        self.0.cache_write(cache, layer, row, k, v, rope)
    }

    fn attention(&mut self, q: View, cache: KvCache, layer: usize, args: Attention, out: View) -> OpResult {
        self.0.attention(q, cache, layer, args, out)
    }

    fn copy(&mut self, x: View, out: View) -> OpResult {
        self.0.copy(x, out)
    }

    fn blend(&mut self, y: View, x: View, target: View, row_weights: View, args: Blend) -> OpResult {
        self.0.blend(y, x, target, row_weights, args)
    }

    fn euler_step(&mut self, x: View, v: View, dt: f32) -> OpResult {
        let (mut state, mut velocity) = (vec![0.0; x.rows * x.cols], vec![0.0; v.rows * v.cols]);
        self.0.read(x, &mut state)?;
        self.0.read(v, &mut velocity)?;
        state.iter_mut().zip(velocity).for_each(|(x, v)| *x += dt * v);
        self.0.write(&state, x)?;
        Ok(Ran::Host)
    }
}

#[test]
fn a_fallback_to_the_host_changes_the_table() {
    const STEPS: usize = 3;
    let checkpoint = Checkpoint::open(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden")).unwrap();
    let arch = checkpoint.arch();
    let mut actions = vec![0.5; arch.chunk_size * arch.max_action_dim];
    let noise = actions.clone();
    let inputs = Inputs {
        images: &vec![0.5; 3 * arch.image_size * arch.image_size],
        tokens: &[1, 2],
        state: &vec![0.1; arch.state_input()],
        noise: &noise,
        rtc: None,
    };
    let own: Box<dyn Builder> = Box::new(ReferenceBuilder::new());
    let sealed = |device| Box::new(Fallback(device)) as Box<dyn Device>;
    let fallback: Box<dyn Builder> = Box::new(Wrapped { sealed, ..Wrapped::new() });
    let mut run = |device: Box<dyn Builder>| {
        let mut model = Pi0::load(&checkpoint, device, STEPS).unwrap();
        model.sample(&inputs, &mut actions).unwrap();
        (model.ledger().clone(), actions.clone())
    };
    let ((own, expected), (fallback, got)) = (run(own), run(fallback));
    assert_eq!(got, expected);

    let line = |table: &str, of: &str| table.lines().find(|l| l.starts_with(of)).unwrap().to_string();
    let table = Coverage::new(&own, true).to_string();
    assert!(line(&table, "production path").ends_with("100.0 %"), "{table}");
    assert_eq!(Coverage::new(&own, false).total().host, 0);

    let table = Coverage::new(&fallback, true).to_string();
    assert_eq!(Coverage::new(&fallback, false).total().host, STEPS as u32);
    assert_eq!(fallback.count(Module::Denoise, Op::EulerStep).host, STEPS as u32);
    let step = line(&table, "  euler_step");
    assert_eq!(step.split_whitespace().collect::<Vec<_>>(), ["euler_step", "0", "3"], "{table}");
    for of in ["production path", Module::Denoise.name()] {
        assert!(!line(&table, of).contains("100.0 %"), "{table}");
    }
    assert!(line(&table, Module::Vision.name()).ends_with("100.0 %"), "{table}");
}
