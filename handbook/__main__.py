"""Write the pages of docs/ that are made."""

from handbook import configuration, one_gpu

for module in (configuration, one_gpu):
    print("written" if module.write() else "unchanged", module.PAGE.relative_to(module.PAGE.parents[1]))
