"""What a teacher gets of a class: a table of marks, tables for Moodle and Canvas, feedback pages, texts to mark."""

import io
import json
import re
from pathlib import Path
from typing import Any

import jinja2
import pandas as pd

from tlcourse.labs.lab import MARKS
from tlcourse.labs.marking import Master
from tlhelpers.files import atomic_write, make_folder

PAGE = jinja2.Environment(autoescape=True, trim_blocks=True).from_string(
    (Path(__file__).parent / "feedback.html").read_text(encoding="utf8")
)


def write_table(rows: list[dict[str, Any]], target: Path) -> None:
    """Write a table as CSV for a spreadsheet. Raises OutputError if it cannot be written."""
    safe = [{k: re.sub("^(?=[=+@-])", "'", v) if isinstance(v, str) else v for k, v in row.items()} for row in rows]
    text = io.StringIO(newline="")
    pd.DataFrame(safe).to_csv(text, index=False)
    with atomic_write(target) as file:
        file.write(text.getvalue().encode("utf-8-sig", "backslashreplace"))  # the signature lets Excel read ✓


class Sheet:
    """The marks of a class; `out` is the folder they go to, and from which points for texts are read."""

    def __init__(self, masters: dict[str, Master], out: Path | None) -> None:
        self.masters, self.out = masters, out
        self.given: dict[tuple[str, str, str], float] = {}  # points for texts: by notebook, exercise and text
        if out and (texts := out / "texts.csv").exists():
            table = pd.read_csv(texts, sep=None, engine="python", encoding="utf-8-sig", dtype=str).fillna("")
            for row in table.to_dict("records"):
                if row.get("points"):
                    key = row["notebook"], row["exercise"], row["text"]
                    self.given[key] = float(row["points"].replace(",", "."))

    def exercises(self, result: Any) -> list[dict[str, Any]]:
        """A row for each exercise of a submission's lab; its points are None for a text that nobody has marked yet."""
        if not result.lab:
            return []
        rows, master = [], self.masters[result.lab]
        for name, most in master.points.items():
            state, message = result.outcomes.get(name, ("blank", "the notebook did not get as far as this"))
            triple = re.findall(r"\"\"\"(.*?)\"\"\"", result.texts.get(name, ""), re.DOTALL)
            row = {"exercise": name, "state": state, "mark": MARKS[state], "message": message, "of": float(most)}
            row |= {"text": "\n\n".join(each.strip() for each in triple) or result.texts.get(name, "").strip()}
            row["points"] = float(most) if state == "right" else 0.0
            if state == "text":
                row["points"] = self.given.get((result.path, name, row["text"]))
            row |= {"title": master.exercises[name].title, "extension": master.exercises[name].extension}
            rows.append({**row, "hint": master.hints.get(name, ""), "rubric": master.rubrics.get(name, "")})
        return rows

    def totals(self, result: Any) -> dict[str, float]:
        """Points of the core, how many there are, points of the extension, and what is still to be given for texts."""
        rows = self.exercises(result)
        core, extra = ([row for row in rows if row["extension"] is each] for each in (False, True))
        points, extension = (sum(row["points"] or 0.0 for row in own) for own in (core, extra))
        waiting = sum(row["of"] for row in rows if row["points"] is None)
        return {"points": points, "of": sum(row["of"] for row in core), "extension": extension, "to mark": waiting}

    def marks(self, results: list[Any]) -> list[dict[str, Any]]:
        """A row for each submission: who, how many points, what went wrong, and a mark for each exercise."""
        rows = []
        for result in results:
            marks = {name: MARKS[state] for name, (state, _) in result.outcomes.items()}
            row = {"student": result.student, "notebook": result.path, "lab": result.lab, **self.totals(result)}
            row |= {"right": [*marks.values()].count(MARKS["right"]), "exercises": len(marks)}
            row |= {"attempts": result.attempts, "seconds": result.seconds, "trouble": result.trouble}
            rows.append({**row, "raised": "; ".join(result.raised), "review": "; ".join(result.review), **marks})
        return rows

    def write(self, results: list[Any]) -> None:
        """Write everything into the folder `out`. Raises OutputError if it cannot be written."""
        assert self.out is not None
        for folder in ("feedback", "gradescope", "results"):
            make_folder(self.out / folder)
        write_table(self.marks(results), self.out / "marks.csv")
        write_table([row for result in results for row in self._texts(result)], self.out / "texts.csv")
        for lab in sorted({result.lab for result in results} - {""}):
            own = [result for result in results if result.lab == lab]
            write_table([self._moodle(result) for result in own], self.out / f"moodle-{lab}.csv")
            write_table(self._canvas(own), self.out / f"canvas-{lab}.csv")
        for result in results:
            name, totals = re.sub(r"[^\w.-]+", "_", result.path.removesuffix(".ipynb")), self.totals(result)
            values = {name.replace(" ", "_"): value for name, value in totals.items()}
            page = PAGE.render(result=result, rows=self.exercises(result), **values)
            with atomic_write(self.out / "feedback" / f"{name}.html") as file:
                file.write(page.encode("utf8", "backslashreplace"))
            with atomic_write(self.out / "gradescope" / f"{name}.json") as file:
                file.write(json.dumps(self._gradescope(result), indent=1).encode())

    def _texts(self, result: Any) -> list[dict[str, Any]]:
        rows, columns = [], ("exercise", "points", "of", "text", "rubric")
        for row in (row for row in self.exercises(result) if row["state"] == "text"):
            state = "needs marking" if row["points"] is None else "marked"
            own = {"student": result.student, "notebook": result.path, "state": state}
            rows.append(own | {key: row[key] for key in columns})
        return rows

    def _moodle(self, result: Any) -> dict[str, Any]:
        """For Moodle's import of grades: `Identifier` is mapped there to e-mail address or ID number."""
        totals, rows = self.totals(result), self.exercises(result)
        said = "; ".join(f"{row['title']}: {row['message']}" for row in rows if row["state"] in ("wrong", "blank"))
        said = f"{totals['points']:g} of {totals['of']:g} points. {said or 'Nothing is wrong.'}"
        points = {f"{result.lab} (Real)": totals["points"], f"{result.lab} (Feedback)": said}
        return {"Identifier": result.student, **points}

    def _canvas(self, results: list[Any]) -> list[dict[str, Any]]:
        """For Canvas's import of a gradebook: a row of possible points, then the students, by ID or login."""
        lab, heads = results[0].lab, ("Student", "ID", "SIS User ID", "SIS Login ID", "Section")
        rows = [{**dict.fromkeys(heads, ""), "Student": "    Points Possible", lab: self.totals(results[0])["of"]}]
        for result in results:
            known = {"ID" if result.student.isdigit() else "SIS Login ID": result.student, "Student": result.student}
            rows.append({**dict.fromkeys(heads, ""), **known, lab: self.totals(result)["points"]})
        return rows

    def _gradescope(self, result: Any) -> dict[str, Any]:
        """The results file that Gradescope's autograder reads, as otter-grader writes it."""
        tests = []
        for row in self.exercises(result):
            test = {"name": row["title"], "output": row["message"], "score": row["points"] or 0.0}
            test |= {"max_score": 0.0 if row["extension"] else row["of"], "visibility": "visible"}
            tests.append({**test, "status": "passed" if row["state"] == "right" else "failed"})
        said = "; ".join(each for each in (result.trouble, *result.raised) if each)
        return {"output": said, "execution_time": round(result.seconds), "visibility": "visible", "tests": tests}
