//! The bridge as cxx declares it: see `ttnn-bridge/src/bridge.hpp`.

#![allow(missing_docs)]

// The macro's own functions have no documentation.
#[allow(clippy::missing_safety_doc)]
#[cxx::bridge(namespace = "pi0rt::ttnn")]
pub mod bridge {
    /// How a tensor's elements are stored.
    #[derive(Debug)]
    enum Dtype {
        Bf16,
        F32,
        Bfp8,
        Bfp4,
    }

    /// How many passes a product makes over its factors' bits.
    #[derive(Debug)]
    enum Fidelity {
        LoFi,
        HiFi2,
        HiFi3,
        HiFi4,
    }

    /// Function that is applied to a result.
    #[derive(Debug)]
    enum Activation {
        None,
        Silu,
        Gelu,
        FastGelu,
    }

    struct OpenOptions {
        device: i32,
        queues: usize,
        trace_region: usize,
        l1_small: usize,
    }

    #[derive(Clone, Debug)]
    struct Facts {
        arch: String,
        grid_x: u32,
        grid_y: u32,
        dram_channels: u32,
        dram_channel_bytes: u64,
        l1_bytes: u64,
    }

    #[derive(Clone, Copy, Debug)]
    struct Compute {
        fidelity: Fidelity,
        f32_accumulate: bool,
        l1_accumulate: bool,
        approximate: bool,
    }

    #[derive(Clone, Copy, Debug)]
    struct Chunks {
        queries: usize,
        keys: usize,
        approximate_exp: bool,
    }

    /// How a product goes through the cores; without columns, as TTNN chooses.
    #[derive(Clone, Copy, Debug, Default)]
    struct Blocks {
        columns: usize,
        lines: usize,
        both: bool,
        share_rows: usize,
        share_cols: usize,
        block_rows: usize,
        block_cols: usize,
        register_rows: usize,
        register_cols: usize,
        depth: usize,
        near: bool,
    }

    unsafe extern "C++" {
        include!("pi0rt/ttnn-bridge/src/bridge.hpp");

        type Device;
        type Tensor;

        fn implementation() -> String;

        fn open(options: &OpenOptions) -> Result<UniquePtr<Device>>;
        fn facts(device: &Device) -> Result<Facts>;
        fn close(device: Pin<&mut Device>) -> Result<()>;
        fn synchronize(device: &Device) -> Result<()>;
        fn fence(device: &Device, from: u8, to: u8) -> Result<()>;
        fn begin_trace(device: Pin<&mut Device>) -> Result<u32>;
        fn end_trace(device: Pin<&mut Device>, trace: u32) -> Result<()>;
        fn execute_trace(device: Pin<&mut Device>, trace: u32) -> Result<()>;
        fn release_trace(device: Pin<&mut Device>, trace: u32) -> Result<()>;

        fn upload(device: &Device, values: &[f32], dims: [u32; 4], dtype: Dtype)
        -> Result<UniquePtr<Tensor>>;
        fn upload_rows(device: &Device, bf16: &[u16], rows: u32, cols: u32) -> Result<UniquePtr<Tensor>>;
        fn rows(device: &Device, dims: [u32; 4]) -> Result<UniquePtr<Tensor>>;
        fn ids(device: &Device, count: u32) -> Result<UniquePtr<Tensor>>;
        fn write(tensor: Pin<&mut Tensor>, values: &[f32], queue: u8) -> Result<()>;
        fn write_rows(tensor: Pin<&mut Tensor>, bf16: &[u16], queue: u8) -> Result<()>;
        fn write_ids(tensor: Pin<&mut Tensor>, values: &[u32], queue: u8) -> Result<()>;
        fn read(tensor: &Tensor, out: &mut [f32]) -> Result<()>;
        fn dims(tensor: &Tensor) -> Result<[u32; 4]>;
        fn share(tensor: &Tensor) -> Result<UniquePtr<Tensor>>;

        fn tilize(x: &Tensor) -> Result<UniquePtr<Tensor>>;
        fn transpose(x: &Tensor) -> Result<UniquePtr<Tensor>>;
        fn typecast(x: &Tensor, dtype: Dtype) -> Result<UniquePtr<Tensor>>;
        fn reshape(x: &Tensor, dims: [u32; 4]) -> Result<UniquePtr<Tensor>>;
        fn slice(x: &Tensor, begins: [u32; 4], ends: [u32; 4]) -> Result<UniquePtr<Tensor>>;
        fn concat(a: &Tensor, b: &Tensor, dim: i32) -> Result<UniquePtr<Tensor>>;
        fn embedding(ids: &Tensor, table: &Tensor) -> Result<UniquePtr<Tensor>>;
        fn add(a: &Tensor, b: &Tensor, dtype: Dtype) -> Result<UniquePtr<Tensor>>;
        fn subtract(a: &Tensor, b: &Tensor) -> Result<UniquePtr<Tensor>>;
        fn multiply(a: &Tensor, b: &Tensor, dtype: Dtype) -> Result<UniquePtr<Tensor>>;
        fn multiply_activated(
            a: &Tensor,
            b: &Tensor,
            activation: Activation,
            dtype: Dtype,
        ) -> Result<UniquePtr<Tensor>>;
        fn add_scaled(a: &Tensor, b: &Tensor, factor: f32, dtype: Dtype) -> Result<UniquePtr<Tensor>>;
        fn add_product(a: &Tensor, b: &Tensor, c: &Tensor) -> Result<UniquePtr<Tensor>>;
        fn scale(a: &Tensor, factor: f32) -> Result<UniquePtr<Tensor>>;
        fn activate(x: &Tensor, activation: Activation) -> Result<UniquePtr<Tensor>>;
        /// # Safety
        /// `bias` is null or a tensor.
        unsafe fn linear(
            x: &Tensor,
            weight: &Tensor,
            bias: *const Tensor,
            activation: Activation,
            dtype: Dtype,
            compute: &Compute,
            blocks: &Blocks,
        ) -> Result<UniquePtr<Tensor>>;
        /// # Safety
        /// `shift` is null or a tensor.
        unsafe fn rms_norm(
            x: &Tensor,
            weight: &Tensor,
            shift: *const Tensor,
            epsilon: f32,
            compute: &Compute,
        ) -> Result<UniquePtr<Tensor>>;
        fn layer_norm(
            x: &Tensor,
            weight: &Tensor,
            bias: &Tensor,
            epsilon: f32,
            compute: &Compute,
        ) -> Result<UniquePtr<Tensor>>;
        fn rotary(x: &Tensor, cos: &Tensor, sin: &Tensor, compute: &Compute) -> Result<UniquePtr<Tensor>>;
        fn split_heads(
            fused: &Tensor,
            queries: u32,
            keys: u32,
            q: &mut UniquePtr<Tensor>,
            k: &mut UniquePtr<Tensor>,
            v: &mut UniquePtr<Tensor>,
        ) -> Result<()>;
        fn join_heads(x: &Tensor) -> Result<UniquePtr<Tensor>>;
        /// # Safety
        /// `mask` is null or a tensor.
        unsafe fn attention(
            q: &Tensor,
            k: &Tensor,
            v: &Tensor,
            mask: *const Tensor,
            scale: f32,
            chunks: &Chunks,
            compute: &Compute,
        ) -> Result<UniquePtr<Tensor>>;
        fn fill_cache(cache: Pin<&mut Tensor>, rows: &Tensor) -> Result<()>;
    }
}
