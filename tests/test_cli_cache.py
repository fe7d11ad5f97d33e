"""The cache is listed by parts and emptied by name, after a question."""

from click.testing import CliRunner

from pansharp_bench.cli import main


def test_the_cache_is_listed_and_emptied(tmp_path, monkeypatch):
    monkeypatch.setenv("PANSHARP_CACHE", str(tmp_path / "cache"))
    for name, size in (
        ("sim/a-v1/train.h5", 2_500_000),
        ("sim/b-v1/train.h5", 10),
        ("sha256/00ff", 64),
        ("sim/.a.lock", 0),
    ):
        path = tmp_path / "cache" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(bytes(size))

    def bench(*words, answer=None):
        return CliRunner().invoke(main, ["cache", *words], input=answer)

    listed = bench().output
    rows = {line.split()[0]: line.split()[1:] for line in listed.splitlines() if line.count("  ") >= 2}
    assert rows["sim/a-v1"] == ["1", "2", "MB"] and rows["sha256"] == ["1", "64", "B"]
    assert bench("sim/c", "--empty", "--yes").exit_code == 2
    assert (
        bench("sim/a-v1", "--empty", answer="n\n").exit_code == 1 and (tmp_path / "cache/sim/a-v1").exists()
    )
    assert bench("sim/a-v1", "--empty", answer="y\n").exit_code == 0
    assert not (tmp_path / "cache/sim/a-v1").exists() and (tmp_path / "cache/sim/b-v1").exists()
    assert "deleted sha256, sim/b-v1" in bench("--empty", "--yes").output
    assert "in all" in bench().output and not list((tmp_path / "cache").rglob("*.h5"))


def test_no_cache_is_an_empty_one(tmp_path, monkeypatch):
    monkeypatch.setenv("PANSHARP_CACHE", str(tmp_path / "none"))
    done = CliRunner().invoke(main, ["cache", "--empty", "--yes"])
    assert done.exit_code == 0 and "0 B" in done.output
