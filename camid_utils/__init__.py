"""Shared code of the study: which camera took this photo?

photos on disk -> catalogue -> patch store -> split -> fit -> model file -> predictions -> metrics, figures -> report

| module        | what is in it                                                         |
|---------------|-----------------------------------------------------------------------|
| `simulate`    | procedural scenes, and both data sets' layouts, shot by               |
| `cameras`     | simulated cameras, one small function a step of a real one            |
| `datasets`    | catalogues of Dresden, FloreView and anyone's own folders             |
| `published`   | what was published, as data                                           |
| `splits`      | train, val and test by five protocols                                 |
| `patches`     | the patch store: patches, crops or whole photos on disk as uint8      |
| `traces`      | what a camera leaves in a photo: noise residuals, JPEG tables         |
| `models`      | the two networks and the model file                                   |
| `training`    | the training loop                                                     |
| `evaluation`  | predictions, votes, metrics with intervals                            |
| `experiments` | one experiment from plan to metrics, as the notebooks run them        |
| `report`      | what the metrics files say                                            |
| `showcase`    | which photos the figures show                                         |
| `plots`       | all figures                                                           |
| `study`       | runs the notebooks: `python -m camid_utils.study`                     |
| `files`, `progress` | whole-or-nothing writing; progress bars                         |
"""
