// Breaks every rule that the emulation enforces, and checks its messages; checks that it computes what the device
// computes. Prints the source line of each refusal: tests/ttnn/rules.rs compares them with the DEMANDs and FATALs of
// the sources.
#include <cmath>
#include <cstdlib>
#include <functional>
#include <iostream>

#include "../ttnn.hpp"

using namespace tt::tt_metal;
using ttnn::MeshDevice;
namespace trace = ttnn::operations::trace;

namespace {

int failures = 0;

/// Checks that `wrong` is refused with `text`.
void refuses(const std::string& text, const std::function<void()>& wrong) {
    try {
        wrong();
        std::cerr << "not refused: " << text << "\n";
        failures++;
    } catch (const std::runtime_error& error) {
        const std::string what = error.what();
        const auto at = what.find("TT_FATAL @ "), end = what.find(": ", at);
        if (at != 0 || what.find(text) == std::string::npos) {
            std::cerr << "expected: " << text << "\n     got: " << what << "\n";
            failures++;
            return;
        }
        std::cout << what.substr(11, end - 11) << "\n";
    }
}

std::shared_ptr<MeshDevice> open(std::size_t trace_region = 1 << 20, std::size_t queues = 2) {
    return MeshDevice::create_unit_mesh(0, 0, trace_region, queues);
}

void with(const char* emulation, const std::function<void()>& call) {
    setenv("PI0RT_EMULATION", emulation, 1);
    call();
    unsetenv("PI0RT_EMULATION");
}

TensorSpec spec(const Shape& shape, DataType dtype, Layout layout = Layout::TILE) {
    return TensorSpec(shape, TensorLayout(dtype, PageConfig(layout), MemoryConfig{}));
}

template <typename T>
Tensor zeros(const TensorSpec& spec, MeshDevice* device) {
    const std::vector<T> values(spec.logical_shape().volume());
    return Tensor::from_span<T>(ttsl::Span<const T>(values.data(), values.size()), spec, device);
}

Tensor tiles(
    const std::shared_ptr<MeshDevice>& device, const Shape& shape, DataType dtype = DataType::BFLOAT16,
    Layout layout = Layout::TILE) {
    switch (dtype) {
        case DataType::BFLOAT16: return zeros<bfloat16>(spec(shape, dtype, layout), device.get());
        case DataType::UINT32: return zeros<uint32_t>(spec(shape, dtype, layout), device.get());
        default: return zeros<float>(spec(shape, dtype, layout), device.get());
    }
}

Tensor rows(const std::shared_ptr<MeshDevice>& device, const Shape& shape, DataType dtype = DataType::BFLOAT16) {
    return tiles(device, shape, dtype, Layout::ROW_MAJOR);
}

Tensor attend(
    const Tensor& q, const Tensor& k, const Tensor& v, const std::optional<Tensor>& mask = {},
    std::size_t q_chunk = 32, std::size_t k_chunk = 32, CoreCoord grid = {1, 1}) {
    const ttnn::operations::transformer::SDPAProgramConfig program{grid, std::nullopt, q_chunk, k_chunk, false};
    return ttnn::transformer::scaled_dot_product_attention(
        q, k, v, mask, false, std::nullopt, std::nullopt, std::nullopt, program);
}

void shapes() {
    refuses("dimension 4 of a shape of rank 4", [] { Shape{1, 2, 3, 4}[4]; });
    refuses("an empty tensor", [] { (void)Tensor().dtype(); });
    refuses("a tensor that is not on a device", [] { zeros<float>(spec({32, 32}, DataType::FLOAT32), nullptr).device(); });
    refuses("does not match the tensor's dtype", [] { zeros<float>(spec({32, 32}, DataType::BFLOAT16), nullptr); });
    refuses("Current buffer size is 7", [] {
        const std::vector<float> values(7);
        Tensor::from_span<float>(ttsl::Span<const float>(values.data(), 7), spec({32, 32}, DataType::FLOAT32));
    });
    refuses("a tensor without elements", [] {
        auto device = open();
        create_device_tensor(spec({32}, DataType::FLOAT32), device.get());
    });
    refuses("require TILE layout", [] {
        auto device = open();
        create_device_tensor(spec({32, 32}, DataType::BFLOAT8_B, Layout::ROW_MAJOR), device.get());
    });
}

void devices() {
    refuses("1 or 2 command queues", [] { open(0, 3); });
    refuses("is out of range: 1 devices were found", [] { MeshDevice::create_unit_mesh(1); });
    refuses("no such command queue", [] { open(0, 1)->mesh_command_queue(1); });
    with("board=e75", [] { refuses("names a board that is not known: e75", [] { open(); }); });
    with("colour=blue", [] { refuses("unknown setting colour=blue", [] { open(); }); });
    with("dram_mib=1", [] {
        refuses("Out of Memory: Not enough space to allocate 2097152 B DRAM buffer, where 1048576 B of 1048576 B are free", [] {
            auto device = open();
            tiles(device, {1, 1, 1024, 1024});
        });
    });
    refuses("the device is closed", [] {
        auto device = open();
        device->close();
        device->mesh_command_queue(0).finish();
    });
    with("lose_after=1", [] {
        refuses("device timeout, potential hang detected", [] {
            auto device = open(0);
            const auto x = tiles(device, {1, 1, 32, 32});
            for (int i = 0; i < 3; i++) {
                ttnn::silu(x);
            }
        });
    });
    refuses("no such command queue", [] {
        auto device = open(0, 1);
        ttnn::events::record_mesh_event(device.get(), QueueId(1));
    });
    refuses("no such command queue", [] {
        auto device = open(0, 1);
        auto x = tiles(device, {1, 1, 32, 32}, DataType::FLOAT32);
        copy_to_device(zeros<float>(spec({1, 1, 32, 32}, DataType::FLOAT32), nullptr), x, QueueId(1));
    });
    // A write on one queue and a use on the other, with and without an event between them.
    const auto queued = [](bool fence, const std::function<void(MeshDevice*, Tensor&)>& use) {
        auto device = open();
        auto x = tiles(device, {1, 1, 32, 32}, DataType::FLOAT32);
        device->mesh_command_queue(0).finish();
        copy_to_device(zeros<float>(spec({1, 1, 32, 32}, DataType::FLOAT32), nullptr), x, QueueId(1));
        if (fence) {
            ttnn::events::wait_for_mesh_event(QueueId(0), ttnn::events::record_mesh_event(device.get(), QueueId(1)));
        }
        use(device.get(), x);
    };
    const auto reads = [](MeshDevice*, Tensor& x) { ttnn::gelu(x); };
    const auto overwrites = [](MeshDevice*, Tensor& x) {
        ttnn::gelu(x);
        copy_to_device(zeros<float>(spec({1, 1, 32, 32}, DataType::FLOAT32), nullptr), x, QueueId(1));
    };
    refuses("gelu on queue 0 reads what queue 1 may still be writing", [&] { queued(false, reads); });
    refuses("copy_to_device on queue 1 writes over what queue 0 may still be using", [&] { queued(true, overwrites); });
    queued(true, reads);
    queued(true, [&](MeshDevice* device, Tensor& x) {
        ttnn::gelu(x);
        ttnn::events::event_synchronize(ttnn::events::record_mesh_event(device, QueueId(0)));
        copy_to_device(zeros<float>(spec({1, 1, 32, 32}, DataType::FLOAT32), nullptr), x, QueueId(1));
    });
    refuses("was never recorded", [] { ttnn::events::wait_for_mesh_event(QueueId(0), {}); });
    refuses("was never recorded", [] { ttnn::events::event_synchronize({}); });
}

void operands() {
    refuses("Operands to silu need to be on device!", [] { ttnn::silu(zeros<float>(spec({32, 32}, DataType::FLOAT32), nullptr)); });
    refuses("a tensor on the host is needed", [] {
        auto device = open();
        auto x = tiles(device, {1, 1, 32, 32});
        copy_to_device(x, x);
    });
    refuses("need to be allocated in buffers on device!", [] {
        auto device = open();
        auto x = tiles(device, {1, 1, 32, 32});
        x.deallocate(true);
        ttnn::silu(x);
    });
    refuses("Inputs to silu must be tilized", [] {
        auto device = open();
        ttnn::silu(rows(device, {1, 1, 32, 32}));
    });
    refuses("need to be on the same device!", [] {
        auto one = open(), two = open();
        ttnn::add(tiles(one, {1, 1, 32, 32}), tiles(two, {1, 1, 32, 32}));
    });
    refuses("the output tensor is [1, 1, 32, 64], the result [1, 1, 32, 32]", [] {
        auto device = open();
        ttnn::silu(tiles(device, {1, 1, 32, 32}), std::nullopt, tiles(device, {1, 1, 32, 64}));
    });
    refuses("must have the same spec", [] {
        auto device = open();
        auto x = tiles(device, {1, 1, 32, 32}, DataType::FLOAT32);
        copy_to_device(zeros<float>(spec({1, 1, 32, 64}, DataType::FLOAT32), nullptr), x);
    });
}

void captures() {
    /// Runs a call on a device that is capturing, with a tensor made before.
    const auto captured = [](const std::function<void(const std::shared_ptr<MeshDevice>&, Tensor&)>& call) {
        return [=] {
            auto device = open();
            auto x = tiles(device, {1, 1, 32, 32}, DataType::FLOAT32);
            ttnn::silu(x);
            trace::begin_trace_capture(device.get(), QueueId(0));
            call(device, x);
        };
    };
    refuses("trace_region_size is 0", [] { auto device = open(0); trace::begin_trace_capture(device.get(), QueueId(0)); });
    refuses("is being captured already", captured([](auto& device, auto&) { trace::begin_trace_capture(device.get(), QueueId(0)); }));
    refuses("Writes are not supported during trace capture", captured([](auto&, auto& x) {
        copy_to_device(zeros<float>(x.tensor_spec(), nullptr), x);
    }));
    refuses("Reads are not supported during trace capture", captured([](auto&, auto& x) { x.template to_vector<float>(); }));
    refuses("Finish is not supported during trace capture", captured([](auto& device, auto&) { device->mesh_command_queue(0).finish(); }));
    refuses("Event Synchronization is not supported during trace capture", captured([](auto& device, auto&) {
        ttnn::events::record_mesh_event(device.get(), QueueId(0));
    }));
    refuses("Event Synchronization is not supported during trace capture", [] {
        auto device = open();
        const auto event = ttnn::events::record_mesh_event(device.get(), QueueId(1));
        trace::begin_trace_capture(device.get(), QueueId(0));
        ttnn::events::wait_for_mesh_event(QueueId(0), event);
    });
    refuses("a program can't be compiled and written to the device during trace capture", captured([](auto&, auto& x) { ttnn::gelu(x); }));
    refuses("can't be executed during trace capture", captured([](auto& device, auto&) {
        trace::execute_trace(device.get(), {1}, QueueId(0), false);
    }));
    refuses("ends a trace that was not begun", [] { auto device = open(); trace::end_trace_capture(device.get(), {7}, QueueId(0)); });
    refuses("Trace instance 7 must exist", [] { auto device = open(); trace::execute_trace(device.get(), {7}, QueueId(0), false); });
    refuses("Trace instance 7 must exist", [] { auto device = open(); trace::release_trace(device.get(), {7}); });
    refuses("Creating trace buffers of size 4096B on MeshDevice, but only 64B", [] {
        auto device = open(64);
        const auto x = tiles(device, {1, 1, 32, 32});
        ttnn::silu(x);
        const auto id = trace::begin_trace_capture(device.get(), QueueId(0));
        ttnn::silu(x);
        trace::end_trace_capture(device.get(), id, QueueId(0));
    });
}

void replays() {
    refuses("Allocating device buffers is unsafe due to the existence of an active trace", [] {
        auto device = open();
        const auto x = tiles(device, {1, 1, 32, 32});
        const auto id = trace::begin_trace_capture(device.get(), QueueId(0));
        trace::end_trace_capture(device.get(), id, QueueId(0));
        ttnn::silu(x);
    });
    refuses("silu reads memory that was deallocated", [] {
        auto device = open();
        auto x = tiles(device, {1, 1, 32, 32});
        ttnn::silu(x);
        const auto id = trace::begin_trace_capture(device.get(), QueueId(0));
        const auto y = ttnn::silu(x);
        trace::end_trace_capture(device.get(), id, QueueId(0));
        x = Tensor();
        trace::execute_trace(device.get(), id, QueueId(0), true);
    });
    refuses("silu writes memory that was deallocated", [] {
        auto device = open();
        const auto x = tiles(device, {1, 1, 32, 32});
        auto y = tiles(device, {1, 1, 32, 32});
        ttnn::silu(x, std::nullopt, y);
        const auto id = trace::begin_trace_capture(device.get(), QueueId(0));
        ttnn::silu(x, std::nullopt, y);
        trace::end_trace_capture(device.get(), id, QueueId(0));
        y = Tensor();
        trace::execute_trace(device.get(), id, QueueId(0), true);
    });
    // A tensor kept by a second capture may be in the memory of the first one's intermediate result.
    const auto overwritten = [](const std::function<void(const Tensor& kept, const Tensor& other)>& call) {
        return [=] {
            auto device = open();
            const auto x = tiles(device, {1, 1, 32, 32}), other = tiles(device, {1, 1, 32, 32});
            ttnn::silu(x);
            ttnn::silu(x, std::nullopt, other);
            const auto first = trace::begin_trace_capture(device.get(), QueueId(0));
            ttnn::silu(x);
            trace::end_trace_capture(device.get(), first, QueueId(0));
            const auto second = trace::begin_trace_capture(device.get(), QueueId(0));
            const auto kept = ttnn::silu(x);
            trace::end_trace_capture(device.get(), second, QueueId(0));
            trace::execute_trace(device.get(), second, QueueId(0), true);
            kept.to_vector<bfloat16>();
            trace::execute_trace(device.get(), first, QueueId(0), true);
            call(kept, other);
        };
    };
    refuses("silu reads a tensor that a trace's replay has overwritten", overwritten([](const Tensor& kept, const Tensor& other) {
        ttnn::silu(kept, std::nullopt, other);
    }));
    refuses("reads a tensor that a trace's replay has overwritten", overwritten([](const Tensor& kept, const Tensor&) {
        kept.to_vector<bfloat16>();
    }));
}

void movement() {
    auto device = open();
    const auto x = tiles(device, {1, 1, 64, 64});
    refuses("cannot reshape [1, 1, 64, 64] to [1, 1, 64, 32]", [&] { ttnn::reshape(x, Shape{1, 1, 64, 32}); });
    refuses("Ends 65 must be less than or equal to the shape", [&] { ttnn::slice(x, {0, 0, 0, 0}, {1, 1, 65, 64}, {1, 1, 1, 1}); });
    refuses("expected a non-empty list", [&] { ttnn::concat({}, 2); });
    refuses("optional output tensor currently unsupported", [&] { ttnn::concat({x, x}, 2, std::nullopt, x); });
    refuses("dim 4 cannot be used", [&] { ttnn::concat({x, x}, 4); });
    refuses("All Tensors should have same dtypes", [&] { ttnn::concat({x, tiles(device, {1, 1, 64, 64}, DataType::FLOAT32)}, 2); });
    refuses("All dimensions must be the same size", [&] { ttnn::concat({x, tiles(device, {1, 1, 64, 32})}, 2); });

    const auto table = rows(device, {8, 32});
    const auto ids = rows(device, {1, 32}, DataType::UINT32);
    const auto look_up = [](const Tensor& ids, const Tensor& table) { return ttnn::embedding(ids, table, std::nullopt, Layout::TILE); };
    refuses("Input must be UINT32", [&] { look_up(rows(device, {1, 32}), table); });
    refuses("Weights tensor layout must be ROW_MAJOR", [&] { look_up(ids, tiles(device, {32, 32})); });
    refuses("Weights tensor must have BFLOAT16 dtype", [&] { look_up(ids, rows(device, {8, 32}, DataType::FLOAT32)); });
    refuses("embedding: id 8 of 8", [&] {
        const std::vector<uint32_t> values(32, 8);
        look_up(
            Tensor::from_span<uint32_t>(
                ttsl::Span<const uint32_t>(values.data(), 32), spec({1, 32}, DataType::UINT32, Layout::ROW_MAJOR), device.get()),
            table);
    });

    const auto cache = tiles(device, {1, 2, 64, 64});
    refuses("Input tensor width (32) must equal cache tensor width (64)", [&] { ttnn::fill_cache(cache, tiles(device, {1, 2, 32, 32}), 0); });
    refuses("Input tensor batch size must be 1 but got 2", [&] { ttnn::fill_cache(cache, tiles(device, {2, 2, 32, 64}), 0); });
    refuses("Input tensor height (1) must equal cache tensor height (2)", [&] { ttnn::fill_cache(cache, tiles(device, {1, 1, 32, 64}), 0); });
    refuses("Input and cache tensors must have same dtype", [&] { ttnn::fill_cache(cache, tiles(device, {1, 2, 32, 64}, DataType::FLOAT32), 0); });
    refuses("Batch index (1) must be less than cache tensor batch size (1)", [&] { ttnn::fill_cache(cache, tiles(device, {1, 2, 32, 64}), 1); });
    refuses("Input tensor height (96) must be <= cache tensor height (64)", [&] { ttnn::fill_cache(cache, tiles(device, {1, 2, 96, 64}), 0); });
    refuses("Number of work blocks (66) must be <= total grid size (64)", [&] {
        ttnn::fill_cache(tiles(device, {1, 2, 1056, 32}), tiles(device, {1, 2, 1056, 32}), 0);
    });
}

void heads() {
    auto device = open();
    const auto split = [&](const Shape& shape) {
        return [=] { ttnn::experimental::nlp_create_qkv_heads(tiles(device, shape), std::nullopt, 2, 1, false, std::nullopt); };
    };
    refuses("Unsupported input sequence length 2 is not equal to 1", split({1, 2, 32, 256}));
    refuses("Unsupported input height 33 is not tile aligned", split({1, 1, 33, 256}));
    refuses("Flattened hidden dimension 130 must be a multiple of 4 heads", split({1, 1, 32, 130}));
    // The device silently gives wrong data: SigLIP's heads are 72 wide.
    refuses("gives wrong data for heads of 72", split({1, 1, 32, 288}));
    refuses("joins heads of whole tiles", [&] { ttnn::experimental::nlp_concat_heads(tiles(device, {1, 2, 32, 72})); });

    const auto x = tiles(device, {1, 1, 64, 64}), angles = tiles(device, {1, 1, 64, 64});
    const auto rotate = [](const Tensor& x, const Tensor& cos, const Tensor& sin) { ttnn::experimental::rotary_embedding(x, cos, sin); };
    refuses("Input X dimension (32) must be divisible by 64", [&] { const auto thin = tiles(device, {1, 1, 32, 32}); rotate(thin, thin, thin); });
    refuses("Cos and Sin dims must match", [&] { rotate(x, angles, tiles(device, {1, 1, 32, 64})); });
    refuses("Cosine cache dimensions must match input dimensions", [&] { const auto two = tiles(device, {1, 2, 64, 64}); rotate(x, two, two); });
    refuses("must cover the sequence length", [&] { const auto few = tiles(device, {1, 1, 32, 64}); rotate(x, few, few); });
}

void arithmetic() {
    auto device = open();
    const auto x = tiles(device, {1, 1, 32, 64});
    refuses("Broadcasting rule violation: [1, 1, 32, 64] and [1, 1, 32, 32]", [&] { ttnn::add(x, tiles(device, {1, 1, 32, 32})); });
    refuses("Input tensor must be FLOAT32, BFLOAT16, or BFLOAT8_B", [&] { ttnn::rms_norm(tiles(device, {1, 1, 32, 64}, DataType::UINT32), 1e-6f); });
    refuses("64 != 32", [&] { ttnn::rms_norm(x, 1e-6f, tiles(device, {1, 1, 1, 32})); });
    refuses("Gamma tensor height must be TILE_HEIGHT (32), got: 64", [&] { ttnn::rms_norm(x, 1e-6f, tiles(device, {1, 1, 33, 64})); });
    refuses("Mismatch: width=64 height=32", [&] { ttnn::linear(x, tiles(device, {1, 1, 32, 32})); });
    refuses("linear multiplies floating point", [&] { ttnn::linear(x, tiles(device, {1, 1, 64, 32}, DataType::UINT32)); });
    const auto weight = tiles(device, {1, 1, 64, 32});
    refuses("bias of [1, 1, 1, 64] for 32 columns", [&] { ttnn::linear(x, weight, tiles(device, {1, 1, 1, 64})); });
    refuses("unknown activation tanhgelu", [&] {
        const std::optional<const ttnn::Activation> activation(std::string("tanhgelu"));
        ttnn::linear(x, weight, std::nullopt, false, false, std::nullopt, std::nullopt, std::nullopt, activation);
    });
    refuses("takes two tensors of one shape and a row", [&] { ttnn::addcmul(x, x, weight); });
    refuses("block formats take several programs", [&] {
        ttnn::addcmul(x, x, tiles(device, {1, 1, 1, 64}, DataType::BFLOAT8_B));
    });
    refuses("core grid of 9x8 on a device of 8x8", [&] {
        ttnn::linear(
            x, weight, std::nullopt, false, false, std::nullopt, std::nullopt, std::nullopt, std::nullopt, std::nullopt,
            ttnn::CoreGrid(9, 8));
    });

    // Blocks of a product of 2 x 4 tiles by 4 x 4.
    using Blocks = ttnn::operations::matmul::MatmulMultiCoreReuseMultiCastProgramConfig;
    using Columns = ttnn::operations::matmul::MatmulMultiCoreReuseMultiCast1DProgramConfig;
    const auto rows = tiles(device, {1, 1, 64, 128}), square = tiles(device, {1, 1, 128, 128});
    const auto in_blocks = [&](const ttnn::operations::matmul::MatmulProgramConfig& blocks, std::optional<const ttnn::CoreGrid> grid) {
        const std::optional<const ttnn::operations::matmul::MatmulProgramConfig> program(blocks);
        ttnn::linear(
            rows, square, std::nullopt, false, false, std::nullopt, std::nullopt, program, std::nullopt, std::nullopt, grid);
    };
    const auto blocked = [&](const std::string& text, const std::function<void(Blocks&)>& change) {
        Blocks blocks{{4, 2}, 2, 1, 1, 1, 1, 1, 1, false, std::nullopt, true};
        change(blocks);
        refuses(text, [&] { in_blocks(blocks, std::nullopt); });
    };
    blocked("grid of 9x2 on a device of 8x8", [](Blocks& b) { b.compute_with_storage_grid_size = {9, 2}; });
    blocked("Kt: 4 in0_block_w: 3", [](Blocks& b) { b.in0_block_w = 3; });
    blocked("per_core_M must be divisible by out_block_h: 1 and 2", [](Blocks& b) { b.out_block_h = 2; });
    blocked("per_core_N must be divisible by out_block_w: 1 and 2", [](Blocks& b) { b.out_block_w = 2; });
    blocked("out_block_h must be divisible by out_subblock_h: 1 and 2", [](Blocks& b) { b.out_subblock_h = 2; });
    blocked("out_block_w must be divisible by out_subblock_w: 1 and 2", [](Blocks& b) { b.out_subblock_w = 2; });
    blocked("needs to be at most 8 to fit in hardware", [](Blocks& b) {
        b.per_core_N = b.out_block_w = b.out_subblock_w = 16;
    });
    blocked("4x2 blocks on 2x2 cores", [](Blocks& b) { b.compute_with_storage_grid_size = {2, 2}; });
    blocked("which is beyond max L1 size of 1499136 B", [](Blocks& b) {
        b.per_core_M = b.out_block_h = b.per_core_N = b.out_block_w = 32;
    });
    Columns columns{{2, 1}, 4, 1, 1, 2, 1, 2, 1, true, std::nullopt, true};
    refuses("4 blocks on 2 cores", [&] { in_blocks(columns, std::nullopt); });
    refuses("a program configuration and a core grid", [&] { in_blocks(columns, ttnn::CoreGrid(8, 8)); });
}

void attention() {
    auto device = open();
    const auto q = tiles(device, {1, 2, 64, 64}), k = tiles(device, {1, 1, 96, 64});
    const auto wide = tiles(device, {1, 2, 64, 64}, DataType::FLOAT32);
    refuses("must be BFLOAT16, BFLOAT8_B, or BFLOAT4_B", [&] { attend(wide, wide, wide); });
    refuses("Padding is not supported on the head_dim dimension", [&] { const auto odd = tiles(device, {1, 2, 64, 72}); attend(odd, odd, odd); });
    refuses("K and V shapes must match", [&] { attend(q, k, tiles(device, {1, 1, 64, 64})); });
    refuses("Q and K batch and head_dim must match", [&] { const auto other = tiles(device, {1, 1, 96, 32}); attend(q, other, other); });
    refuses("divisible by K num_heads", [&] { const auto more = tiles(device, {1, 3, 96, 64}); attend(q, more, more); });
    refuses("chunk sizes must be whole tiles", [&] { attend(q, k, k, {}, 48, 32); });
    refuses("granularity must be a power of 2. Got 3", [&] { attend(q, k, k, {}, 32, 96); });
    refuses("Provided grid must not exceed device grid: 9x8 of 8x8", [&] { attend(q, k, k, {}, 32, 32, {9, 8}); });
    refuses("which is beyond max L1 size of 1499136 B", [&] { attend(q, k, k, {}, 1024, 1024); });
    const auto masked = [&](const Shape& mask, std::size_t q_chunk, std::size_t k_chunk) {
        return [=] { attend(q, k, k, tiles(device, mask), q_chunk, k_chunk); };
    };
    refuses("it must be in BF16, BFP8, or BFP4 dataformat", [&] { attend(q, k, k, tiles(device, {1, 1, 64, 96}, DataType::FLOAT32)); });
    refuses("When mask is provided to SDPA, it must be in DRAM", [&] {
        const auto mask = tiles(device, {1, 1, 64, 96});
        attend(q, k, k, ttnn::add(mask, mask, std::nullopt, ttnn::L1_MEMORY_CONFIG), 32, 32);
    });
    refuses("Mask batch dim must either be 1 or match Q", masked({2, 1, 64, 96}, 32, 32));
    refuses("Mask sequence length must match Q sequence length: 32 and 64", masked({1, 1, 32, 96}, 32, 32));
    refuses("Mask sequence length must match K sequence length: 64 and 96", masked({1, 1, 64, 64}, 32, 32));
    refuses("Got q_seq_len: 64, q_chunk_size: 128", masked({1, 1, 64, 96}, 128, 32));
    refuses("Got k_seq_len: 96, k_chunk_size: 64", masked({1, 1, 64, 96}, 32, 64));
}

/// Checks a statement about what the device computes.
void holds(bool statement, const std::string& text) {
    if (!statement) {
        std::cerr << "does not hold: " << text << "\n";
        failures++;
    }
}

Tensor values(const std::shared_ptr<MeshDevice>& device, const Shape& shape, const std::function<float(std::size_t)>& of) {
    std::vector<bfloat16> all(shape.volume());
    for (std::size_t i = 0; i < all.size(); i++) {
        all[i] = bfloat16(of(i));
    }
    return Tensor::from_span<bfloat16>(
        ttsl::Span<const bfloat16>(all.data(), all.size()), spec(shape, DataType::BFLOAT16), device.get());
}

ttnn::DeviceComputeKernelConfig sums_in(bool f32) {
    return ttnn::init_device_compute_kernel_config(tt::ARCH::WORMHOLE_B0, std::nullopt, MathFidelity::HiFi4, false, f32, true);
}

/// Differences from plain arithmetic, as on the device.
void numbers() {
    auto device = open();
    const auto zero = [](std::size_t) { return 0.0f; };

    // An activation is part of a product only where the product's cores are given.
    const auto x = values(device, {1, 1, 32, 64}, [](std::size_t i) { return 0.01f * static_cast<float>(i % 7); });
    const auto programs = [&](std::optional<const ttnn::CoreGrid> grid) {
        const std::optional<const ttnn::Activation> activation(std::string("silu"));
        const auto before = emulation::programs(device.get());
        ttnn::linear(
            x, tiles(device, {1, 1, 64, 32}), std::nullopt, false, false, std::nullopt, std::nullopt, std::nullopt, activation,
            std::nullopt, grid);
        return emulation::programs(device.get()) - before;
    };
    holds(programs(std::nullopt) == 2, "without cores an activation is a program of its own");
    holds(programs(ttnn::CoreGrid(8, 8)) == 1, "with cores it is not");

    // With a configuration the activation is part of it, and the numbers are the same.
    const auto ones = values(device, {1, 1, 64, 32}, [](std::size_t i) { return i % 3 == 0 ? 1.0f : -0.5f; });
    const auto activated = [&](bool blocks) {
        using ttnn::operations::matmul::MatmulMultiCoreReuseMultiCast1DProgramConfig;
        MatmulMultiCoreReuseMultiCast1DProgramConfig columns{{1, 1}, 2, 1, 1, 1, 1, 1, 1, true, std::nullopt, true};
        columns.fused_activation = ttnn::UnaryWithParam(ttnn::UnaryOpType::SILU);
        std::optional<const ttnn::operations::matmul::MatmulProgramConfig> program;
        std::optional<const ttnn::Activation> activation;
        if (blocks) {
            program.emplace(columns);
        } else {
            activation.emplace(std::string("silu"));
        }
        const auto before = emulation::programs(device.get());
        const auto y = ttnn::linear(
            x, ones, std::nullopt, false, false, ttnn::L1_MEMORY_CONFIG, std::nullopt, program, activation, sums_in(true));
        const auto launched = emulation::programs(device.get()) - before;
        holds(y.memory_config().buffer_type() == BufferType::L1, "results lie where they were asked for");
        return std::pair(launched, static_cast<float>(y.to_vector<bfloat16>()[0]));
    };
    const auto [fused, inside] = activated(true);
    const auto [apart, outside] = activated(false);
    holds(fused == 1 && apart == 2, "a configuration has the activation in the product");
    holds(std::abs(inside - outside) < 1e-2f, "and applies it");
    const auto biased = [&](const ttnn::Memory& memory) {
        const auto before = emulation::programs(device.get());
        const std::optional<const MemoryConfig> place = memory ? std::optional<const MemoryConfig>(*memory) : std::nullopt;
        ttnn::linear(x, ones, tiles(device, {1, 1, 1, 32}), false, false, place);
        return emulation::programs(device.get()) - before;
    };
    holds(biased(std::nullopt) == 1 && biased(ttnn::L1_MEMORY_CONFIG) == 2, "by itself TTNN adds no bias to results in L1");

    // Rows that begin or end within a tile are untilized before, and tilized after.
    const auto rows_of = [&](uint32_t first, uint32_t rows) {
        const auto before = emulation::programs(device.get());
        ttnn::slice(tiles(device, {1, 1, 96, 64}), {0, 0, first, 0}, {1, 1, first + rows, 64}, {1, 1, 1, 1});
        return emulation::programs(device.get()) - before;
    };
    holds(rows_of(32, 32) == 1 && rows_of(32, 8) == 3 && rows_of(8, 32) == 3, "slices of parts of tiles are three programs");
    const auto joined = [&](uint32_t rows) {
        const auto before = emulation::programs(device.get());
        ttnn::concat({tiles(device, {1, 1, rows, 64}), tiles(device, {1, 1, 8, 64})}, 2);
        return emulation::programs(device.get()) - before;
    };
    holds(joined(32) == 1 && joined(40) == 4, "rows below parts of tiles are joined by four programs");

    // Norms: a sum of squares in 16 bits loses what 32 keep.
    const auto spread = values(device, {1, 1, 32, 256}, [](std::size_t i) { return i % 256 == 0 ? 16.0f : 0.3f; });
    const auto normed = [&](bool f32) {
        return static_cast<float>(ttnn::rms_norm(
            spread, 1e-6f, std::nullopt, std::nullopt, std::nullopt, std::nullopt, std::nullopt, sums_in(f32)).to_vector<bfloat16>()[0]);
    };
    holds(normed(true) != normed(false), "norms depend on the accumulation");

    // Attention of equal scores: the mean of what is seen. Values are 1 in the first 32 rows, 3 in the others.
    const auto q = values(device, {1, 1, 32, 64}, zero), k = values(device, {1, 1, 64, 64}, zero);
    const auto v = values(device, {1, 1, 64, 64}, [](std::size_t i) { return i < 32 * 64 ? 1.0f : 3.0f; });
    const auto mask_from = [&](std::size_t first) {
        return values(device, {1, 1, 32, 64}, [=](std::size_t i) { return i % 64 < first ? -1e9f : 0.0f; });
    };
    const auto attended = [&](std::size_t first, std::size_t k_chunk, bool f32) {
        const ttnn::operations::transformer::SDPAProgramConfig program{{1, 1}, std::nullopt, 32, k_chunk, false};
        const auto out = ttnn::transformer::scaled_dot_product_attention(
            q, k, v, mask_from(first), false, std::nullopt, std::nullopt, std::nullopt, program, sums_in(f32));
        return static_cast<float>(out.to_vector<bfloat16>()[0]);
    };
    const auto near = [](float a, float b) { return std::abs(a - b) < 0.02f; };
    holds(near(attended(0, 32, true), 2), "all keys are seen");
    holds(near(attended(32, 64, true), 3), "a block of which something is seen hides the rest");
    holds(near(attended(32, 32, false), 3), "with sums of 16 bits a hidden first block vanishes");
    holds(near(attended(32, 32, true), 2), "with sums of 32 bits it stays, as on the simulator");

    // The exponential of scores is an approximation, whatever is asked for: e^-1 against e^0 within 6 %, but not exact.
    const auto one = values(device, {1, 1, 32, 64}, [](std::size_t i) { return i % 64 == 0 ? 1.0f : 0.0f; });
    const auto rows = values(device, {1, 1, 32, 64}, [](std::size_t i) { return i == 0 ? 8.0f : 0.0f; });
    const auto first = values(device, {1, 1, 32, 64}, [](std::size_t i) { return i < 64 ? 1.0f : 0.0f; });
    const auto p = static_cast<float>(attend(one, rows, first).to_vector<bfloat16>()[0]);
    const float exact = std::exp(1.0f) / (std::exp(1.0f) + 31);
    holds(std::abs(p - exact) < 0.06f * exact && std::abs(p - exact) > 0.004f * exact, "scores' exponential is fast");
}

}  // namespace

int main(int count, char**) {
    if (count > 1) {
        // Configured by PI0RT_EMULATION.
        open();
        return EXIT_SUCCESS;
    }
    for (const auto& group : {shapes, devices, operands, captures, replays, movement, heads, arithmetic, attention, numbers}) {
        group();
    }
    return failures == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
