"""Medical imaging: clinical scores, calibration, reports, the published chest radiographs."""
