"""Shared code of the study: which camera took this photo?

photograph -> catalogue -> split -> patch store -> fit -> model file -> predictions -> metrics, figures -> claims

The map, in the order in which a photograph passes through; no module imports from one further down.

| module           | what is in it                                                                              |
|------------------|--------------------------------------------------------------------------------------------|
| `files`          | atomic writes, locks, what every command line shares                                       |
| `project`        | where files belong, the record of a run (run.json), progress bars                          |
| `photos`         | one photograph: the decoder, its header and quantisation tables, its degradations          |
| `published/`     | what was published, as data: tables, log, counts; the claims, each with its rule           |
| `catalogues`     | a folder of photos as a table with one row per photo                                       |
| `datasets`       | the layouts of Dresden, FloreView, Forchheim, VISION, the public photographs, own folders  |
| `download/`      | real photographs: `sources`, `fetch`, `check`; `python -m camid_utils.download`            |
| `simulate/`      | `scenes`, `cameras` (lens, sensor, demosaicing, JPEG), `build`                             |
| `splits`         | train, val and test by six protocols                                                       |
| `patches`        | the patch store: cutting, its key, which patches carry traces                              |
| `planning`       | which rows of a patch store train, validate and test; one network, several tests           |
| `models`         | the two networks, that of Bondi et al., colour residuals, the model file                   |
| `augmentation`   | flips, rotation, jitter and degradations of training images                                |
| `batches`        | device, precision, batches, CUDA graphs, several processes, logits                         |
| `checkpoints`    | what an interrupted training run resumes from                                              |
| `training`       | the loop, its hyperparameters; jobs: `python -m camid_utils.training JOB`, under torchrun  |
| `evaluation`     | predictions, votes, confusion matrices, metrics                                            |
| `intervals`      | bootstrap over devices, scenes, seeds, owners; Holm's correction; verdict and formatter    |
| `figures/`       | `style`, `curves`, `results`, `scores`, `photographs`                                      |
| `experiments`    | one experiment from plan to metrics; `experiments.csv` lists every one                     |
| `identify/`      | which camera took a photo: `predict`, the command line, `page` and `web/`; `release` (the  |
|                  | model that is published, and its card)                                                     |
| `analyses/`      | `baselines` (header, content, residuals), `colour_residuals` (the published model's        |
|                  | recipe), `traces` (spectra of noise residuals), `content` (tests it cannot pass),          |
|                  | `learning` (and votes: how many patches a photo needs), `transfer`, `robustness`,          |
|                  | `fingerprints` (of sensors), `open_set` (and splices), `calibration` (and likelihood       |
|                  | ratios), `which_trace` (cameras that differ in one step), `other_corpora`                  |
| `report/`        | `tables`, `statements` (language of the rules), `ledger`, `headlines` (README),            |
|                  | `matrices` (the page of confusion matrices; `web/`)                                        |
| `benchmark`      | ours beside the plain recipe: `python -m camid_utils.benchmark`                            |
| `execution`      | runs notebooks in kernels of their own, once or per combination of parameters              |
| `study`          | profiles, comparison, publication: `python -m camid_utils.study`                           |
"""
