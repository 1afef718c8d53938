//! TTNN's own refusals on its mock device, run by `ttnn-bridge/mock.sh`.
use pi0rt::device::ttnn::bridge::{
    self, Activation, Blocks, Chunks, Compute, Dtype, Fidelity, OpenOptions, Tensor,
};

const COMPUTE: Compute =
    Compute { fidelity: Fidelity::HiFi4, f32_accumulate: true, l1_accumulate: true, approximate: false };

#[test]
#[ignore = "needs TTNN and its mock device: ttnn-bridge/mock.sh"]
fn refusals_are_errors_and_the_device_stays_usable() {
    let options = OpenOptions { device: 0, queues: 1, trace_region: 0, l1_small: 0 };
    let mut device = bridge::open(&options).unwrap();
    let zeros = |dims: [u32; 4], dtype| {
        let values = vec![0.0; dims.iter().map(|&dim| dim as usize).product()];
        bridge::upload(&device, &values, dims, dtype)
    };
    let linear = |x: &Tensor, weight: &Tensor| {
        // SAFETY: there is no bias.
        unsafe {
            let blocks = Blocks::default();
            bridge::linear(x, weight, std::ptr::null(), Activation::None, Dtype::Bf16, &COMPUTE, &blocks)
        }
    };
    let attention = |x: &Tensor, step| {
        let chunks = Chunks { queries: step, keys: step, approximate_exp: false };
        // SAFETY: there is no mask.
        unsafe { bridge::attention(x, x, x, std::ptr::null(), 1.0, &chunks, &COMPUTE) }
    };

    let x = zeros([1, 1, 64, 1024], Dtype::Bf16).unwrap();
    let weight = zeros([1, 1, 1024, 256], Dtype::Bf16).unwrap();
    let narrow = zeros([1, 1, 512, 256], Dtype::Bf16).unwrap();
    let heads = zeros([1, 8, 2048, 256], Dtype::Bf16).unwrap();
    let odd_heads = zeros([1, 8, 64, 72], Dtype::Bf16).unwrap();

    // Refused calls with their messages.
    let big = 20_000_u32;
    let too_large = || {
        let row = zeros([1, 1, 32, 32 * big], Dtype::Bf16)?;
        let column = zeros([1, 1, 32 * big, 32], Dtype::Bf16)?;
        linear(&column, &row)
    };
    let refusals = [
        ("factors that don't fit", linear(&x, &narrow), "width of the first tensor must be equal"),
        ("heads of 72", attention(&odd_heads, 32), "Padding is not supported on the head_dim dimension"),
        ("steps of 2048", attention(&heads, 2048), "beyond max L1 size"),
        ("a product of 819 GB", too_large(), "Out of Memory"),
    ];
    for (what, refused, words) in refusals {
        let text = refused.err().unwrap_or_else(|| panic!("{what} passed")).what().to_owned();
        assert!(text.contains(words), "{what}: {text}");
        println!("{what}: {}", text.lines().find(|line| line.contains(words)).unwrap_or_default());
    }

    for _ in 0..2 {
        let y = linear(&x, &weight).unwrap();
        assert_eq!(bridge::dims(&y).unwrap(), [1, 1, 64, 256]);
        assert_eq!(bridge::dims(&attention(&heads, 64).unwrap()).unwrap(), [1, 8, 2048, 256]);
    }
    drop((x, weight, narrow, heads, odd_heads));
    bridge::close(device.pin_mut()).unwrap();
}
