"""The data sets that the course adds to those of `tlhelpers`; pyproject.toml announces this list as an entry point."""

from tlhelpers.data.catalogue import Entry

DATA_SETS = (
    Entry(
        name="safari",
        what="drawings of eight kinds of things on made-up backgrounds, also at other sizes",
        profile="quick, full",
        size="nothing",
        licence="CC BY-SA 4.0",
        loader="tlcourse.safari.dataset:load_safari",
    ),
    Entry(
        name="phantom",
        what="drawn chest radiographs, normal or with opacities whose place is known; no medical data",
        profile="quick, full",
        size="nothing",
        licence="MIT",
        loader="tlcourse.phantom.dataset:load_phantom",
    ),
    Entry(
        name="chest_xray",
        what="the same radiographs in full size, divided by patient; root= names your copy",
        profile="full",
        size="1,200 MB, by hand",
        licence="CC BY 4.0",
        loader="tlcourse.medical.chest_xray:load_chest_xray",
    ),
)
