"""The data sets that the course adds to those of `tlhelpers`; pyproject.toml announces this list as an entry point."""

from tlhelpers.data.catalogue import DataSetEntry

DATA_SETS = (
    DataSetEntry(
        name="safari",
        what="drawings of eight kinds of things on made-up backgrounds, also at other sizes",
        size="nothing",
        licence="CC BY-SA 4.0",
        profile="quick, full",
        module="tlcourse.safari.dataset",
    ),
    DataSetEntry(
        name="phantom",
        what="drawn chest radiographs, normal or with opacities whose place is known; no medical data",
        size="nothing",
        licence="MIT",
        profile="quick, full",
        module="tlcourse.phantom.dataset",
    ),
    DataSetEntry(
        name="chest_xray",
        what="chest radiographs of children in full size, divided by patient; root= names your copy",
        size="1,200 MB, by hand",
        licence="CC BY 4.0",
        module="tlcourse.medical.chest_xray",
    ),
)
