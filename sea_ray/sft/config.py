from sea_ray.sft.stages import SftConfig
