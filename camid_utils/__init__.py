"""Shared code of the study: which camera took this photo?

photograph -> catalogue -> split -> patch store -> fit -> model file -> predictions -> metrics, figures -> claims

The map, in the order in which a photograph flows; nothing imports from further down.

| room             | what is in it                                                                              |
|------------------|--------------------------------------------------------------------------------------------|
| `files`          | atomic writes, one process at a time                                                       |
| `project`        | where things lie, the record of a run (run.json), progress bars                            |
| `photos`         | one photograph: the decoder, its header and quantisation tables, its degradations          |
| `published/`     | what was published, as data: the paper's tables and claims, its log, the data sets' counts |
| `catalogues`     | a folder of photos as a table with one row per photo                                       |
| `datasets`       | the layouts of Dresden, FloreView, Forchheim, VISION and of your own folders               |
| `download/`      | fetch and check real photographs: `python -m camid_utils.download`                         |
| `simulate/`      | `scenes`, `cameras` (lens, sensor, demosaicing, JPEG), `layouts`, `build`                  |
| `splits`         | train, val and test by five protocols                                                      |
| `planning`       | which rows of a patch store are for what; plans that compare like with like                |
| `patches`        | the patch store: cutting, its key, which patches carry traces                              |
| `models`         | the two networks, the model file                                                           |
| `augmentation`   | flips, rotation, jitter and degradations of training images                                |
| `batches`        | device, precision, batches, logits                                                         |
| `checkpoints`    | what an interrupted training resumes from                                                  |
| `training`       | the loop, its hyperparameters                                                              |
| `evaluation`     | predictions, votes, confusion matrices, metrics                                            |
| `intervals`      | bootstrap, differences, one formatter, one verdict                                         |
| `figures/`       | `style`, `curves`, `results`, `scores`, `photographs`, `examples`, `summary`               |
| `experiments`    | one experiment from plan to metrics; `experiments.csv` lists every one                     |
| `identify/`      | which camera took a photo: `predict`, the command line, `page` and its files in `web/`     |
| `analyses/`      | `traces`, `learning`, `voting`, `transfer`, `robustness`, `fingerprints`, `open_set` (also |
|                  | photos put together from two), `other_corpora`                                             |
| `report/`        | `tables`, `evidence`, `statements`, the `ledger` of claims, `headlines` (README's table)   |
| `study`          | runs the notebooks, compares and publishes: `python -m camid_utils.study`                  |
"""
