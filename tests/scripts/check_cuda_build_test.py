"""scripts/check_cuda_build.py finds what it looks for: in made-up logs, and in the machine code of known_instructions.cu where nvcc is
there (exit code 77 says that this part was left out)."""
import contextlib
import importlib.util
import io
import os
import shutil
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

HERE = Path(__file__).parent
spec = importlib.util.spec_from_file_location("check_cuda_build", HERE.parent.parent / "scripts/check_cuda_build.py")
check = importlib.util.module_from_spec(spec)
sys.modules[spec.name] = check
spec.loader.exec_module(check)

NVCC = shutil.which("nvcc", path=os.environ["PATH"] + ":/usr/local/cuda/bin")

LOG = """\
[3/9] Building CUDA object kernels/cuda/a.cu.o
ptxas info    : 24 bytes gmem
ptxas info    : Compiling entry function '_Z3onePf' for 'sm_90a'
ptxas info    : Function properties for _Z3onePf
    0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads
ptxas info    : Used 168 registers, used 5 barriers, 49152 bytes smem
ptxas info    : Compiling entry function '_Z3twoPf' for 'sm_90a'
ptxas info    : Function properties for _Z3twoPf
    16 bytes stack frame, 12 bytes spill stores, 8 bytes spill loads
ptxas info    : Used 255 registers, used 0 barriers
"""


class ReadsTheLog(unittest.TestCase):
    def test_registers_spills_and_shared_memory(self):
        kernels = check.kernels_of_log(LOG)
        self.assertEqual(kernels["_Z3onePf"], check.Kernel(registers=168, stack=0, spilled=0, shared=49152))
        self.assertEqual(kernels["_Z3twoPf"], check.Kernel(registers=255, stack=16, spilled=20, shared=0))

    def test_only_the_kernel_that_spills_is_a_problem(self):
        problems = list(check.problems_of_kernels(check.kernels_of_log(LOG), {}))
        self.assertEqual([name for name, _ in problems], ["_Z3twoPf"])

    def test_notes_of_lost_speed(self):
        for line in (
            "ptxas info    : (C7510) Potential Performance Loss: wgmma.mma_async instructions are serialized due to ...",
            "ptxas info    : (C7508) Unable to compile with requested number of registers: setmaxnreg ignored",
        ):
            self.assertTrue(check.LOSSES.search(line), line)
        self.assertFalse(check.LOSSES.search(LOG))


@unittest.skipUnless(NVCC, "no nvcc")
class ReadsMachineCode(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.TemporaryDirectory()
        cls.object = Path(cls.folder.name) / "known_instructions.cu.o"
        cls.log = Path(cls.folder.name) / "log"
        flags = ["-gencode", "arch=compute_90a,code=sm_90a", "-Xptxas=-v", "-std=c++20", "-c"]
        done = subprocess.run([NVCC, *flags, HERE / "known_instructions.cu", "-o", cls.object], stderr=subprocess.PIPE, text=True, check=True)
        cls.log.write_text(done.stderr)
        cls.opcodes = check.opcodes_of_object(cls.object.read_bytes())

    @classmethod
    def tearDownClass(cls):
        cls.folder.cleanup()

    def test_finds_each_instruction_where_it_is_and_nowhere_else(self):
        of_kernel = {
            "uses_wgmma": {"HGMMA"},
            "uses_mma_sync": {"HMMA"},
            "uses_tma": {"TMA_LOAD"},
            "uses_local_memory": {"LDL", "STL"},
            "uses_nothing": set(),
        }
        self.assertEqual({name: set(counts) for name, counts in self.opcodes.items()}, of_kernel)

    def run_main(self, needed, log=None):
        output = io.StringIO()
        before, check.NEEDED = check.NEEDED, needed
        try:
            with contextlib.redirect_stdout(output):
                status = check.main(log or self.log, [self.object])
        finally:
            check.NEEDED = before
        return status, [line for line in output.getvalue().splitlines() if line.startswith("PROBLEM")]

    def test_local_memory_fails_the_check(self):
        status, problems = self.run_main({"uses_wgmma": ["HGMMA"], "known_instructions: uses_tma": ["TMA_LOAD"]})
        self.assertEqual(status, 1)
        self.assertTrue(all("uses_local_memory" in problem for problem in problems), problems)

    def test_a_missing_instruction_and_a_missing_kernel_fail_the_check(self):
        _, problems = self.run_main({"uses_nothing": ["HGMMA"], "uses_fp8": ["QGMMA"]})
        self.assertTrue(any("uses_nothing: has no HGMMA" in problem for problem in problems), problems)
        self.assertTrue(any("uses_fp8: no kernel has this name" in problem for problem in problems), problems)

    def test_objects_of_which_the_log_is_silent_fail_the_check(self):
        _, problems = self.run_main({}, log=os.devnull)
        self.assertTrue(any("uses_nothing: in an object, but the log" in problem for problem in problems), problems)


if __name__ == "__main__":
    result = unittest.main(exit=False).result
    sys.exit(1 if not result.wasSuccessful() else 77 if result.skipped else 0)
