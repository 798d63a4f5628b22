"""scripts/gpu_report.py joins our times with PyTorch's by operation and shape, and says what failed."""
import importlib.util
import json
import tempfile
import unittest
from pathlib import Path

spec = importlib.util.spec_from_file_location("gpu_report", Path(__file__).parent.parent.parent / "scripts/gpu_report.py")
gpu_report = importlib.util.module_from_spec(spec)
spec.loader.exec_module(gpu_report)


class Report(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.TemporaryDirectory()
        self.state = Path(self.folder.name)
        (self.state / "card").write_text("NVIDIA A, 580.1, 80000 MiB\n")
        for name in ("kernels.passed", "kernels.log", "core_tests_cuda.log"):
            (self.state / name).touch()

    def tearDown(self):
        self.folder.cleanup()

    def write(self, name, *lines):
        (self.state / name).write_text("".join(json.dumps(line) + "\n" for line in lines))

    def test_without_numbers_there_is_no_table(self):
        text = gpu_report.report(self.state, "2001-02-03")
        self.assertIn("NVIDIA A, 580.1, 80000 MiB\n- Date: 2001-02-03\n- Passed: kernels\n- Failed: core_tests_cuda\n", text)
        self.assertNotIn("|", text)

    def test_rows(self):
        product = {"op": "matmul q forward", "shape": "8x4->2"}
        add = {"op": "add", "shape": "8x4"}
        other = {"op": "add", "shape": "9x4"}
        self.write(
            "kernels.jsonl",
            product | {"us": 20.0, "tflops": 700.4, "tbs": 1.0, "share_of_floor": 0.886},
            add | {"us": 3.0, "tbs": 3.456, "share_of_floor": 0.8},
            {"op": "rope", "shape": "1", "error": "no such thing"},
        )
        self.write("rival.jsonl", product | {"us": 25.0, "call": "mm"}, other | {"us": 1.0, "call": "add"})
        text = gpu_report.report(self.state, "2001-02-03")
        self.assertIn("| matmul q forward | 8x4->2 | 20.0 | 700 TFLOP/s | 89% | 25.0 | 1.25x mm |\n", text)
        self.assertIn("| add | 8x4 | 3.0 | 3.46 TB/s | 80% |  |  |\n", text)
        self.assertIn("| rope | 1 | failed: no such thing |", text)

    def test_kernels_of_exact_stand_beside_those_of_fast(self):
        add = {"op": "add", "shape": "8x4", "tbs": 3.456, "share_of_floor": 0.8}
        self.write("kernels.jsonl", add | {"us": 3.0})
        self.write("kernels-exact.jsonl", {"op": "ceiling copy", "shape": "8 bytes", "tbs": 3.012}, add | {"us": 4.0}, add | {"shape": "9x4", "us": 5.0})
        text = gpu_report.report(self.state, "2001-02-03")
        self.assertIn("| add | 8x4 | 4.0 | 3.46 TB/s | 80% | 3.0 | 0.75x |\n", text)
        self.assertIn("| add | 9x4 | 5.0 | 3.46 TB/s | 80% |  |  |\n", text)

    def test_ceilings_are_what_shares_refer_to(self):
        self.write("kernels.jsonl", {"op": "ceiling copy", "shape": "8 bytes", "tbs": 3.012}, {"op": "ceiling product", "shape": "4x4->4", "tflops": 777.7},
                   {"op": "add", "shape": "8x4", "us": 3.0, "tbs": 3.456, "share_of_floor": 0.8})
        text = gpu_report.report(self.state, "2001-02-03")
        self.assertIn("778 TFLOP/s (a product\nof random bfloat16 matrices, 4x4->4) and 3.01 TB/s", text)
        self.assertNotIn("| ceiling", text)

    def test_training(self):
        self.write("training-x.jsonl", {"config": "configs/x", "arguments": "--set a=b", "tokens": 32768, "steps": 2, "tokens_per_s": 99999.6, "step_ms": 327.68, "peak_memory_gib": 70.04,
                                      "first_step_s": 5.5, "mfu": 0.4449, "optimizer_ms": 15.1})
        text = gpu_report.report(self.state, "2001-02-03")
        self.assertIn("`configs/x --set a=b`, median of 2 steps of 32,768 tokens: 100,000 tokens/s, 44.5% of the card's bfloat16 peak,\n327.7 ms a step (optimizer 15.1 ms)", text)
        self.assertIn("70.0 GiB at most, 5.5 s from start to first step.", text)

    def test_pytorch_beside_the_slower_of_our_steps(self):
        ours = {"config": "configs/x", "arguments": "", "tokens": 32768, "steps": 2, "tokens_per_s": 1.0, "peak_memory_gib": 70.0, "first_step_s": 5.5}
        self.write("training-x.jsonl", ours | {"step_ms": 300.0})
        self.write("training-x-again.jsonl", ours | {"step_ms": 320.0})
        self.write("training-x-exact.jsonl", ours | {"step_ms": 500.0, "arguments": "--set numerics.mode=EXACT"})  # another job
        theirs = {"parameters": "bfloat16", "compile": "default", "tokens_per_s": 81920.0, "step_ms": 400.0, "peak_memory_gib": 50.04, "torch": "9.9"}
        self.write("pytorch-a.jsonl", theirs | {"config": "configs/x"})
        self.write("pytorch-b.jsonl", theirs | {"config": "configs/y", "compile": "no"})
        text = gpu_report.report(self.state, "2001-02-03")
        self.assertIn("PyTorch 9.9, ", text)
        self.assertIn("| `configs/x` | bfloat16 | default | 81,920 | 400.0 | 50.0 | 1.25x |\n", text)
        self.assertIn("| `configs/y` | bfloat16 | no | 81,920 | 400.0 | 50.0 |  |\n", text)

    def test_grpo(self):
        result = {"config": "configs/g", "samples": 256, "mean_length": 480.4, "generation_tokens_per_s": 65432.1, "training_tokens_per_s": 123456.7,
                  "step_ms": 3000.0, "generation_ms": 1800.0, "peak_memory_gib": 30.04, "logprob_gap_max": 0.0}
        self.write("grpo-graphs.jsonl", result)
        self.write("grpo-launches.jsonl")  # has not run to its end
        text = gpu_report.report(self.state, "2001-02-03")
        self.assertIn("`configs/g` by `scripts/gpu_grpo.sh`", text)
        self.assertIn("| graphs | 256 | 480 | 65,432 | 123,457 | 3.00 | 60% | 30.0 | 0 |\n", text)
        self.assertNotIn("| launches", text)

    def test_layouts(self):
        (self.state / "layouts.txt").write_text("data=1  reference\ndata=2  same bits\n")
        text = gpu_report.report(self.state, "2001-02-03")
        self.assertIn("```text\ndata=1  reference\ndata=2  same bits\n```", text)


if __name__ == "__main__":
    unittest.main()
