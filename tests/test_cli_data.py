"""``bench data``: what users see, and with which exit code."""

import json
import subprocess
import sys

import pytest
import torch
from click.testing import CliRunner
from h5files import samples, write, write_set

from pansharp_bench.cli import main


@pytest.fixture
def bench(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("PANSHARP_DATA", raising=False)
    monkeypatch.setenv("PANSHARP_CACHE", str(tmp_path / "cache"))
    return lambda *words: CliRunner().invoke(main, ["data", *map(str, words)])


def test_help_of_an_own_command_imports_no_dataset():
    code = (
        "import sys\n"
        "from pansharp_bench.cli import main\n"
        "main(['data', 'info', '--help'], standalone_mode=False)\n"
        "print(sorted({'torch', 'pansharp_bench.datasets'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "DATASET" in done.stdout and done.stdout.splitlines()[-1] == "[]"


@pytest.fixture
def root(tmp_path):
    return write_set(tmp_path / "pan")


def test_list(bench, root, monkeypatch):
    result = bench("list", "--data", root)
    assert result.exit_code == 0
    (line,) = [x for x in result.output.splitlines() if x.startswith("qb ")]
    assert " ".join(line.split()) == f"qb qb train 4, valid 2, reduced 1, full 1 {root}"
    assert "no GaoFen-2 files under" in result.output
    monkeypatch.setenv("PANSHARP_DATA", str(root))
    rows = {r["name"]: r for r in json.loads(bench("list", "--json").stdout)}
    assert rows["qb"]["splits"] == {"train": 4, "valid": 2, "reduced": 1, "full": 1}
    assert rows["qb"]["missing"] == "" and "wv3" in rows["wv3"]["missing"]


def test_list_without_a_data_root(bench):
    result = bench("list")
    assert result.exit_code == 0 and "no data root" in result.output and "PANSHARP_DATA" in result.output


def test_info(bench, root):
    result = bench("info", "qb", "--data", root, "--label", "mine")
    assert result.exit_code == 0
    for word in ("qb-mine", "4x4x64x64", "float64", "nir", "not the known original", "no checksum is known"):
        assert word in result.output
    told = json.loads(bench("info", "qb", "--data", root, "--label", "mine", "--json").stdout)
    assert told["name"] == "qb-mine" and [f["samples"] for f in told["files"]] == [4, 2, 1, 1]
    assert len(told["files"][0]["sha256"]) == 64 and len(told["files"][0]["band_mean"]) == 4


def test_info_without_files_says_where_to_get_them(bench, tmp_path):
    for words in (("info", "qb"), ("info", "qb", "--data", tmp_path)):
        result = bench(*words)
        assert result.exit_code == 2 and "elsting/PanCollection" in result.output
        assert "Traceback" not in result.output


def test_check_exit_codes(bench, root):
    sound = bench("check", "qb", "--data", root, "--label", "mine")
    assert sound.exit_code == 0 and "error" not in sound.output
    unlabelled = bench("check", "qb", "--data", root)
    assert unlabelled.exit_code == 1 and "--label" in unlabelled.output
    write(root / "train_qb.h5", samples(n=4, seed=9, phase=(1, 2)))
    result = bench("check", "qb", "--data", root, "--label", "mine", "--json")
    assert result.exit_code == 1
    (error,) = [f for f in json.loads(result.stdout)["findings"] if f["level"] == "error"]
    assert "(1,2) in 4" in error["text"]


def test_check_reports_and_changes_nothing(bench, root):
    train = samples(n=4, seed=1)
    train["gt"][1, 0, 0, 0] = torch.nan
    write(root / "train_qb.h5", train)
    before = {p.name: p.read_bytes() for p in root.iterdir()}
    result = bench("check", "qb", "--data", root, "--label", "mine")
    assert result.exit_code == 1 and "nan in sample 1" in result.output
    assert {p.name: p.read_bytes() for p in root.iterdir()} == before


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("check", "bq"), "did you mean"),
        (("check", "qb", "--label", "sim"), "reserved"),
        (("info", "qb", "--data", "nowhere"), "does not exist"),
        (("check", "qb"), "--data DIR"),
    ],
)
def test_mistakes_get_one_message_and_exit_code_2(bench, words, said):
    result = bench(*words)
    assert result.exit_code == 2 and said in result.output and "Traceback" not in result.output


def test_info_of_a_file_that_is_not_hdf5(bench, root):
    (root / "train_qb.h5").write_text("<html>download</html>")
    result = bench("info", "qb", "--data", root)
    assert result.exit_code == 2 and "web page" in result.output and "train_qb.h5" in result.output
